// What the core and the CUDA plug-in agree on: the one function that the plug-in exports.
#pragma once

#include <armagrad/autodiff/device/device.hpp>

namespace armagrad::cuda {

/// Grows when Backend or the meaning of a Command changes; the sizes catch a plug-in built from other headers.
inline constexpr int plugin_version = (3 << 16) + static_cast<int>(sizeof(Command<double>) + sizeof(Kernel<double>));

/// extern "C" armagrad_cuda_open: the backend, which lives as long as the program, or null with the reason in `error`.
using OpenPlugin = Backend*(int version, char* error, std::size_t error_size);
inline constexpr const char* open_plugin_name = "armagrad_cuda_open";

}  // namespace armagrad::cuda
