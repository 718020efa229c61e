// A module's parameters and counters, to and from files.
#pragma once

#include <map>
#include <string>

#include <armagrad/nn/module.hpp>
#include <armagrad/nn/safetensors.hpp>

namespace armagrad::nn {

/// The parameters and counters of a module as arrays named by their paths with `prefix` before them ("l1.weight"):
/// matrices rows x columns, a Linear's bias with one dimension, counters as single numbers. These are the names and
/// shapes of PyTorch's state_dict. A parameter that several members share comes once, under its first name.
Tensors state(ModuleBase& module, const std::string& prefix = "");

/// Gives the module's parameters and counters the values of the arrays whose names begin with `prefix`: all of them or,
/// where anything does not fit, none. Arrays of one dimension fit parameters of one column; float fits double. A
/// counter that the arrays lack (PyTorch has none for dropout) stays as it is.
/// @throws DataError that lists what does not match: names missing or left over, shapes, types.
void set_state(ModuleBase& module, const Tensors& tensors, const std::string& prefix = "");

/// write_safetensors(path, state(module)) with these texts beside it, and throws as it does.
void save(ModuleBase& module, const std::string& path, const std::map<std::string, std::string>& metadata = {});

/// set_state(module, read_safetensors(path)), and throws as the two do. Returns the file's texts.
/// A file from PyTorch fits a module with the same names: safetensors.torch.save_file(model.state_dict(), path).
std::map<std::string, std::string> load(ModuleBase& module, const std::string& path);

}  // namespace armagrad::nn
