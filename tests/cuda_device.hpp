// What the tests of the CUDA device share. Where the CUDA toolkit's headers are, the plug-in's own code runs on the
// host by way of cuda_stand_in/; with ARMAGRAD_CUDA_PLUGIN set, the tests run against the plug-in named, on a real GPU.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <string>
#include <tuple>

#include <boost/test/unit_test.hpp>
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <armagrad/autodiff/device/device.hpp>
#include <armagrad/autodiff/error.hpp>

#ifndef ARMAGRAD_CUDA_STAND_IN
#define ARMAGRAD_CUDA_STAND_IN ""
#endif

using ElementTypes = std::tuple<float, double>;

inline const std::string stand_in_file = ARMAGRAD_CUDA_STAND_IN;
inline const bool plugin_was_named =
    std::getenv("ARMAGRAD_CUDA_PLUGIN") != nullptr && std::getenv("ARMAGRAD_CUDA_PLUGIN") != stand_in_file;

/// A function that the stand-in exports beside the plug-in's own.
template <class F>
F* exported(const char* name) {
  static void* library = dlopen(stand_in_file.c_str(), RTLD_NOW | RTLD_LOCAL);
  BOOST_REQUIRE_MESSAGE(library != nullptr, dlerror());
  void* function = dlsym(library, name);
  BOOST_REQUIRE_MESSAGE(function != nullptr, name);
  return reinterpret_cast<F*>(function);
}
inline void run_threads_descending(bool yes) {
  if (!plugin_was_named) exported<void(bool)>("cuda_stand_in_descending")(yes);
}
inline std::size_t count_of(const char* what) {
  return exported<std::size_t(const char*)>("cuda_stand_in_count")(what);
}
inline std::size_t allocations() { return count_of("memory"); }
inline std::string seeded(const char* fault, float* x = nullptr, unsigned n = 0) {
  return exported<const char*(const char*, float*, unsigned)>("cuda_stand_in_seed")(fault, x, n);
}

inline bool skipped(bool needs_stand_in = false) {
  const char* reason = nullptr;
  if (plugin_was_named && needs_stand_in)
    reason = "it tests the stand-in, and ARMAGRAD_CUDA_PLUGIN names another plug-in";
  if (!plugin_was_named && stand_in_file.empty())
    reason = "the stand-in was not built, because the headers of CUDA 12 or newer are not here";
  if (reason != nullptr)
    std::cout << "skipped " << boost::unit_test::framework::current_test_case().p_name << ": " << reason << "\n";
  return reason != nullptr;
}

inline armagrad::Backend& device() {
  if (!plugin_was_named) setenv("ARMAGRAD_CUDA_PLUGIN", stand_in_file.c_str(), 1);
  return armagrad::Device::cuda().backend();
}

template <class F>
std::string message_of(F f) {
  try {
    f();
  } catch (const armagrad::DeviceError& e) {
    return e.what();
  }
  return "no DeviceError";
}
/// The text that f returns in a process of its own.
template <class F>
std::string said_by_child(F f) {
  int ends[2];
  BOOST_REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  if (child == 0) {
    const std::string text = f();
    _exit(write(ends[1], text.data(), text.size()) < 0);
  }
  close(ends[1]);
  std::string text(2000, ' ');
  text.resize(static_cast<std::size_t>(std::max<ssize_t>(read(ends[0], text.data(), text.size()), 0)));
  close(ends[0]);
  waitpid(child, nullptr, 0);
  return text;
}
/// What Device::cuda() throws in a process of its own, with this plug-in named (or none).
inline std::string why_not(const char* plugin) {
  return said_by_child([plugin] {
    plugin == nullptr ? unsetenv("ARMAGRAD_CUDA_PLUGIN") : setenv("ARMAGRAD_CUDA_PLUGIN", plugin, 1);
    return message_of([] { armagrad::Device::cuda(); });
  });
}
inline void check_contains(const std::string& text, const std::string& part) {
  BOOST_CHECK_MESSAGE(text.find(part) != std::string::npos, "'" << text << "' lacks '" << part << "'");
}
