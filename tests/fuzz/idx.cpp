// The reader of IDX files, plain and gzip: any bytes give an array or an armagrad::DataError, nothing else. What is
// read as an array serves as images and, where it has one dimension, as labels.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/datasets/idx.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace armagrad::data;
  try {
    const IdxArray array = parse_idx({reinterpret_cast<const char*>(data), size}, "input");
    std::size_t count = 1;
    for (const std::size_t d : array.shape) count *= d;
    if (count != array.values.size()) std::abort();
    const std::uint32_t n = array.shape[0];
    const bool labels = array.shape.size() == 1;
    if (n > 100000) return 0;
    idx_dataset<float>(labels ? IdxArray{{n, 1}, std::vector<std::uint8_t>(n), "images"} : array,
                       labels ? array : IdxArray{{n}, std::vector<std::uint8_t>(n), "labels"}, labels ? 10 : 0);
  } catch (const armagrad::DataError&) {
  }
  return 0;
}
