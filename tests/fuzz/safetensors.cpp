// The safetensors reader and a module's loading: any bytes give arrays or an armagrad::Error, nothing else.
// An input that begins with '{' is a header up to its first zero byte and data after it; its length is put before it,
// so that the fuzzer need not keep the two in step.
#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>

#include <armagrad/nn/layers.hpp>
#include <armagrad/nn/state.hpp>

namespace {

struct Net : armagrad::nn::Module<float> {
  armagrad::nn::Linear<float> l1{3, 4}, l2{4, 2};
  armagrad::nn::Dropout<float> drop{0.5, 1};
  ARMAGRAD_MODULE(l1, l2, drop)
  armagrad::Var<float> forward(armagrad::Var<float> x) { return drop(l2(l1(x))); }
};

std::string file_of(std::string bytes) {
  if (!bytes.starts_with('{')) return bytes;
  const std::uint64_t header = std::min(bytes.find('\0'), bytes.size());
  bytes.erase(header, 1);
  return std::string(reinterpret_cast<const char*>(&header), sizeof(header)) + bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Net net;
  const std::string file = file_of(std::string(reinterpret_cast<const char*>(data), size));
  try {
    const auto tensors = armagrad::nn::parse_safetensors(file, "input");
    for (const auto& [name, tensor] : tensors.arrays) {
      try {
        tensors.matrix<double>(name);
      } catch (const armagrad::DataError&) {
      }
    }
    armagrad::nn::set_state(net, tensors);
  } catch (const armagrad::DataError&) {
  }
  return 0;
}
