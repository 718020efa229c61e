#include "zoo/machine.hpp"

#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <thread>

#include <dlfcn.h>
#include <fmt/format.h>
#include <sys/utsname.h>

namespace armagrad::zoo {
namespace {

template <class Function>
Function* loaded(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_DEFAULT, name));
}

std::string processor() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (!line.starts_with("model name")) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    std::string name;
    for (std::string word; words >> word;) name += (name.empty() ? "" : " ") + word;
    if (!name.empty()) return name;
  }
  utsname system{};
  return uname(&system) == 0 ? fmt::format("unnamed {} processor", system.machine) : "unnamed processor";
}

std::string blas() {
  if (auto* config = loaded<const char*()>("openblas_get_config")) {
    std::istringstream words(config());  // OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH ...
    std::string name, version;
    words >> name >> version;
    auto* core = loaded<const char*()>("openblas_get_corename");
    return fmt::format("{} {}{}", name, version, core ? fmt::format(" ({} kernels)", core()) : "");
  }
  Dl_info found{};
  if (void* product = dlsym(RTLD_DEFAULT, "dgemm_"); product && dladdr(product, &found) && found.dli_fname) {
    std::error_code unresolved;
    const auto file = std::filesystem::canonical(found.dli_fname, unresolved);
    return (unresolved ? std::filesystem::path(found.dli_fname) : file).filename().string();
  }
  return "unknown";
}

}  // namespace

Machine this_machine() {
  auto* threads = loaded<int()>("openblas_get_num_threads");
  return {processor(), threads ? static_cast<unsigned>(threads()) : std::thread::hardware_concurrency(), blas()};
}

}  // namespace armagrad::zoo
