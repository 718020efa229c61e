// Forward declarations: enough to name armagrad's types in a header without Armadillo.
#pragma once

namespace armagrad {

struct Shape;
class Device;
template <class eT>
class Tape;
template <class eT>
class Var;
template <class eT>
class Parameter;

namespace nn {
template <class eT>
class Module;
}

}  // namespace armagrad
