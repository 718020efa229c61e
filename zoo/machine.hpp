// What the numbers of a report were computed on, and what --device names.
#pragma once

#include <string>

#include <armagrad/autodiff/device/device.hpp>
#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/machine.hpp>

namespace armagrad::zoo {

using armagrad::Machine;
inline Machine this_machine() { return machine(); }

/// The device that a pipeline's --device names. @throws OptionError for a name that is not one, DeviceError where it is
/// not there.
inline Device device_named(const std::string& pipeline, const std::string& name) {
  if (name == "cpu") return Device::cpu();
  if (name == "cuda") return Device::cuda();
  throw OptionError(pipeline + ": --device is '" + name + "'; it must be cpu or cuda");
}

}  // namespace armagrad::zoo
