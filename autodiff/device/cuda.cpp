// Finds and loads the CUDA plug-in. The core knows nothing of CUDA, so it starts where there is none.
#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include <dlfcn.h>
#include <fmt/format.h>

#include <armagrad/autodiff/device/cuda/plugin.hpp>
#include <armagrad/autodiff/error.hpp>

namespace armagrad {
namespace {

constexpr const char* plugin_file = "libarmagrad_cuda.so";

/// The folder of the file that holds this code: the shared library's, or the program's.
std::filesystem::path own_folder() {
  std::error_code ignored;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", ignored);
  Dl_info here{};
  if (dladdr(reinterpret_cast<const void*>(&own_folder), &here) == 0 || here.dli_fname == nullptr)
    return program.parent_path();
  // Of a program this is argv[0], which may be relative to a folder that is no longer the current one.
  const std::filesystem::path file = here.dli_fname;
  return (file.filename() == program.filename() ? program : std::filesystem::absolute(file, ignored)).parent_path();
}

void* load_plugin() {
  const auto load = [](const std::string& file) {
    void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr)
      throw DeviceError(
          fmt::format("Device::cuda(): the plug-in could not be loaded: {}; it needs the cuBLAS of the CUDA "
                      "version it was built with, where the loader finds it (LD_LIBRARY_PATH)",
                      dlerror()));
    return library;
  };
  if (const char* named = std::getenv("ARMAGRAD_CUDA_PLUGIN"); named != nullptr && *named != '\0') {
    if (!std::filesystem::exists(named))
      throw DeviceError(fmt::format("Device::cuda(): ARMAGRAD_CUDA_PLUGIN names {}, which does not exist", named));
    return load(std::filesystem::absolute(named));
  }
  // Installed it is in lib, beside the bin of programs; in a build tree in its top folder, programs one below.
  const std::filesystem::path folder = own_folder();
  std::error_code ignored;
  for (const auto& place : {folder, folder / ".." / "lib", folder / ".."})
    if (std::filesystem::exists(place / plugin_file, ignored)) return load(place / plugin_file);
  if (void* library = dlopen(plugin_file, RTLD_NOW | RTLD_LOCAL)) return library;
  throw DeviceError(
      fmt::format("Device::cuda(): this build of armagrad has no CUDA device: {} is neither beside the "
                  "program ({}) nor where the loader looks; build armagrad with CUDA 12 or newer "
                  "installed (cmake -DARMAGRAD_CUDA=ON says what is missing), or name the file in "
                  "ARMAGRAD_CUDA_PLUGIN",
                  plugin_file, folder.string()));
}

Backend& open_backend() {
  void* library = load_plugin();
  const auto open = reinterpret_cast<cuda::OpenPlugin*>(dlsym(library, cuda::open_plugin_name));
  char error[1024] = "the plug-in is no plug-in of armagrad";
  Backend* backend = open == nullptr ? nullptr : open(cuda::plugin_version, error, sizeof error);
  if (backend == nullptr) throw DeviceError(fmt::format("Device::cuda(): {}", error));
  return *backend;
}

}  // namespace

void Device::allow_tf32(bool allowed) const {
  if (!backend_->allow_tf32(allowed) && allowed)
    throw DeviceError(fmt::format("allow_tf32: {} has no TF32; it is an option of Device::cuda()", name()));
}

Device Device::cuda() {
  static Backend& backend = open_backend();  // tried again after a failure
  return Device(backend);
}

}  // namespace armagrad
