// One loop, several instruction sets: a CPU kernel's code is compiled for each of them and the CPU device calls the
// version that its processor has, so that one binary runs on any x86-64 and still uses wide registers. Only the
// functions marked here may hold wider instructions: what the linker shares with other files never does.
#pragma once

#include <armagrad/autodiff/device/device.hpp>

namespace armagrad::detail {

/// What this processor has, or less if ARMAGRAD_INSTRUCTIONS says so.
InstructionSet instructions_here();

#if defined(__x86_64__) && defined(__GNUC__) && !defined(ARMAGRAD_ONE_INSTRUCTION_SET)
// `flatten` takes the whole loop into the marked function; a call left over would run the plain version.
#define ARMAGRAD_VERSION(instructions) __attribute__((target(instructions), flatten))
template <auto code>
struct Versions;
template <class... Args, void (*code)(Args...)>
struct Versions<code> {
  __attribute__((flatten)) static void plain(Args... args) { code(args...); }
  ARMAGRAD_VERSION("avx2,fma") static void avx2(Args... args) { code(args...); }
#ifdef __clang__
  ARMAGRAD_VERSION("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")
#else
  ARMAGRAD_VERSION("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,prefer-vector-width=512")
#endif
  static void avx512(Args... args) { code(args...); }
};
#undef ARMAGRAD_VERSION
template <class eT, void (*code)(const Command<eT>&)>
constexpr Kernel<eT> versions(const char* name, bool elementwise = false) {
  return {name, {&Versions<code>::plain, &Versions<code>::avx2, &Versions<code>::avx512}, elementwise};
}
/// Calls `code` in the version for this processor: for loops that are only part of a command.
template <auto code, class... Args>
void run_version(Args... args) {
  static constexpr decltype(code) all[] = {&Versions<code>::plain, &Versions<code>::avx2, &Versions<code>::avx512};
  static const auto here = all[static_cast<int>(instructions_here())];
  here(args...);
}
#else
template <auto code, class... Args>
void run_version(Args... args) {
  code(args...);
}
template <class eT, void (*code)(const Command<eT>&)>
constexpr Kernel<eT> versions(const char* name, bool elementwise = false) {
  return {name, code, elementwise};
}
#endif

}  // namespace armagrad::detail
