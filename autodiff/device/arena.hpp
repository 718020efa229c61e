// Device memory for one recording. Buffers are carved off large blocks and all given back at once by `rewind`, which
// keeps the blocks: from the second step on a training loop allocates nothing. Gradients and temporaries are returned
// one by one and reused within the step, so that backward needs memory for the gradients alive, not for all of them.
#pragma once

#include <algorithm>
#include <bit>
#include <functional>
#include <vector>

#include <armagrad/autodiff/device/device.hpp>
#include <armagrad/autodiff/error.hpp>

namespace armagrad::detail {

class Arena {
 public:
  explicit Arena(Backend& backend) : backend_(&backend) {}
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() {
    for (const Block& b : blocks_) backend_->release(b.memory);
  }

  /// Lives until `rewind`.
  [[gnu::always_inline]] void* take(std::size_t bytes) {
    bytes = bytes <= 8 ? 8 : rounded(bytes);
    // Vector loads want 64-byte alignment; a scalar node must not cost a cache line.
    const std::size_t align = bytes < 64 ? 8 : 64;
    const std::size_t start = (used_ + align - 1) & ~(align - 1);
    if (start + bytes > end_) [[unlikely]]
      return take_elsewhere(bytes);
    used_ = start + bytes;
    return memory_ + start;
  }

  /// As `take`, but may be given back before the rewind.
  void* borrow(std::size_t bytes) {
    std::vector<void*>& free = free_[size_class(rounded(bytes))];
    if (free.empty()) return take(class_bytes(size_class(rounded(bytes))));
    void* memory = free.back();
    free.pop_back();
    return memory;
  }
  void give_back(void* memory, std::size_t bytes) {
    const std::size_t c = size_class(rounded(bytes));
    classes_ = std::max(classes_, c + 1);
    free_[c].push_back(memory);
  }

  /// A point in the order of the `take`s.
  struct Place {
    std::size_t block, used;
  };
  Place place() const { return {current_, used_}; }
  /// Whether the memory was taken after that point.
  bool taken_after(Place p, const void* memory) const {
    for (std::size_t b = p.block; b < blocks_.size(); ++b) {
      const auto* start = static_cast<const char*>(blocks_[b].memory);
      const auto* at = static_cast<const char*>(memory);
      if (std::less_equal<>()(start, at) && std::less<>()(at, start + blocks_[b].bytes))
        return b > p.block || static_cast<std::size_t>(at - start) >= p.used;
    }
    return false;
  }
  /// Gives back what was taken after that point.
  void rewind_to(Place p) {
    for (auto& f : free_) std::erase_if(f, [&](const void* m) { return taken_after(p, m); });
    enter(p.block);
    used_ = p.used;
  }

  void rewind() {
    enter(0);
    forget_given_back();
  }
  /// What was given back is not lent again before the rewind: a replay goes on using it.
  void forget_given_back() {
    while (classes_ > 0) free_[--classes_].clear();
  }

  std::size_t capacity() const {
    std::size_t total = 0;
    for (const Block& b : blocks_) total += b.bytes;
    return total;
  }

 private:
  struct Block {
    void* memory;
    std::size_t bytes;
  };

  void enter(std::size_t block) {
    current_ = block;
    used_ = 0;
    memory_ = block < blocks_.size() ? static_cast<char*>(blocks_[block].memory) : nullptr;
    end_ = block < blocks_.size() ? blocks_[block].bytes : 0;
  }
  void* take_elsewhere(std::size_t bytes) {
    while (current_ < blocks_.size()) {
      enter(current_ + 1);
      if (bytes <= end_) {
        used_ = bytes;
        return memory_;
      }
    }
    const std::size_t last = blocks_.empty() ? std::size_t{1} << 15 : blocks_.back().bytes;
    const std::size_t size = std::max(bytes, std::min(2 * last, std::size_t{1} << 26));
    blocks_.reserve(blocks_.size() + 1);
    blocks_.push_back(new_block(size, bytes));
    enter(blocks_.size() - 1);
    used_ = bytes;
    return memory_;
  }
  /// Of `wanted` bytes, or of those needed when there are no more.
  Block new_block(std::size_t wanted, std::size_t needed) {
    if (wanted > needed) try {
        return {backend_->allocate(wanted), wanted};
      } catch (const DeviceError&) {
      }
    return {backend_->allocate(needed), needed};
  }

  static std::size_t rounded(std::size_t bytes) { return bytes == 0 ? 16 : (bytes + 15) / 16 * 16; }
  // Four classes per power of two: at most a quarter of a buffer is lost to rounding.
  static std::size_t size_class(std::size_t bytes) {
    const unsigned p = std::bit_width(bytes - 1);  // bytes <= 2^p
    if (p < 5) return 0;
    const std::size_t quarter = std::size_t{1} << (p - 3);
    return (p - 5) * 4 + (bytes - (std::size_t{1} << (p - 1)) + quarter - 1) / quarter;
  }
  static std::size_t class_bytes(std::size_t c) {
    if (c == 0) return 16;
    const std::size_t p = (c - 1) / 4 + 5;
    return (std::size_t{1} << (p - 1)) + ((c - 1) % 4 + 1) * (std::size_t{1} << (p - 3));
  }

  Backend* backend_;
  std::vector<Block> blocks_;
  std::size_t current_ = 0;  // the block in use, of which memory_ and end_ (bytes) are copies
  std::size_t used_ = 0;
  std::size_t end_ = 0;
  char* memory_ = nullptr;
  std::vector<void*> free_[176];
  std::size_t classes_ = 0;  // none of the lists from here on holds anything
};

}  // namespace armagrad::detail
