#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace armagrad {

/// Rows x columns of a matrix; a batch has one sample per column.
struct Shape {
  std::uint32_t rows = 0;
  std::uint32_t cols = 0;

  std::size_t size() const { return std::size_t{rows} * cols; }
  bool is_scalar() const { return rows == 1 && cols == 1; }
  friend bool operator==(const Shape&, const Shape&) = default;
};

/// "10x64"
inline std::string to_string(Shape s) { return std::to_string(s.rows) + "x" + std::to_string(s.cols); }

}  // namespace armagrad
