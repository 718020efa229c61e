// Named arrays in files that PyTorch, NumPy and JAX read and write too: the safetensors format
// (https://huggingface.co/docs/safetensors), a JSON header and the numbers, no code to run.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <armagrad/autodiff/armadillo.hpp>

namespace armagrad::nn {

/// An array as model files hold it: row-major, of any number of dimensions. No dimension at all is a single number.
struct Tensor {
  using Values =
      std::variant<std::vector<float>, std::vector<double>, std::vector<std::int64_t>, std::vector<std::uint64_t>>;

  std::vector<std::uint64_t> shape;
  Values values;

  Tensor() = default;
  /// The matrix, rows x columns.
  explicit Tensor(const arma::fmat& matrix);
  explicit Tensor(const arma::mat& matrix);
  /// One dimension: raw words, such as a random generator's state.
  explicit Tensor(std::vector<std::uint64_t> words);
  /// A single number.
  explicit Tensor(std::uint64_t counter);
  /// A column (or any matrix, read in row-major order) as an array of one dimension.
  template <class eT>
  static Tensor vector(const arma::Mat<eT>& column);
};

/// What a file holds: arrays by name, and texts by name (of a model, an epoch, a version). Besides a model's weights it
/// serves as a training's checkpoint; `state` and `set_state` move a module's parameters in and out.
///
///     Tensors checkpoint = state(model, "model.");
///     checkpoint.arrays["random"] = Tensor(words);
///     checkpoint.metadata["epoch"] = "12";
///     write_safetensors("checkpoint.safetensors", checkpoint);
struct Tensors {
  std::map<std::string, Tensor> arrays;
  std::map<std::string, std::string> metadata;
  std::string source = "the tensors";  ///< the file they were read from, for messages

  /// The array of that name as a matrix: of two dimensions rows x columns, of one a column, of none 1 x 1.
  /// float (F16, BF16 and F32 in files) is widened to double; double is not rounded to float.
  /// @throws DataError, naming file and array, when it is missing, of another type or has more dimensions.
  template <class eT>
  arma::Mat<eT> matrix(const std::string& name) const;
  /// The array of that name as raw words, whatever its shape. @throws DataError as above.
  const std::vector<std::uint64_t>& words(const std::string& name) const;
};

/// Reads a file. F16 and BF16 come as float, exactly.
/// @throws DataError, naming the file, what is wrong and the way out, for a file that is missing, cut off, followed by
///   other bytes, or whose header is too large, no JSON, names something twice or places arrays outside of the data,
///   over each other or with gaps; for a PyTorch file (.pt), with the lines of Python that convert it.
Tensors read_safetensors(const std::string& path);
/// The same for the bytes of a file; `source` names them in messages.
Tensors parse_safetensors(std::string_view bytes, const std::string& source);

/// Writes a file, the same bytes for the same tensors. It is whole or, where it cannot be written, not there at all,
/// and what stood there is unchanged.
/// @throws DataError with the reason when it cannot be written, ValueError for a name that the format does not allow or
///   a shape that its number of values does not fill.
void write_safetensors(const std::string& path, const Tensors& tensors);

}  // namespace armagrad::nn
