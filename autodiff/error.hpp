// The exceptions of armagrad: one small hierarchy, each message saying what was wrong, with which values or
// shapes, and what to do. Catch `armagrad::Error` for all of them.
#pragma once

#include <stdexcept>
#include <string>

namespace armagrad {

/// Base of everything armagrad throws.
class Error : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Operands whose shapes do not fit the operation.
class ShapeError : public Error {
  using Error::Error;
};

/// A Var, tape, parameter or optimizer used in a way its state does not allow (rewound, moved, another tape's, ...).
class StateError : public Error {
  using Error::Error;
};

/// A value for which the operation has no answer: a singular matrix, a NaN loss, a label out of range.
class ValueError : public Error {
  using Error::Error;
};

/// A file or a data set that is missing, damaged or not what it should be.
class DataError : public Error {
  using Error::Error;
};

/// A device that is absent, out of memory, or has no implementation of an operation.
class DeviceError : public Error {
  using Error::Error;
};

/// An option or argument that does not exist or has a value outside its range.
class OptionError : public Error {
  using Error::Error;
};

namespace detail {
/// Throws the error again, with what the device was wanted for before its own words if these do not say it.
[[noreturn]] void tell_for(const std::string& purpose, const DeviceError& e);
}  // namespace detail

}  // namespace armagrad
