#pragma once

#include <memory>
#include <vector>

#include <armagrad/nn/module.hpp>

namespace armagrad::optim {

struct SgdOptions {
  double lr = 1e-2;
  double momentum = 0;
  double dampening = 0;     // how much less of the new gradient enters the momentum
  double weight_decay = 0;  // adds weight_decay * w to the gradient
  bool nesterov = false;    // needs momentum and no dampening
  bool maximize = false;
};

/// Stochastic gradient descent, as PyTorch defines it:  d = g + weight_decay w;  v = momentum v + (1 - dampening) d;
/// w -= lr v, or lr (d + momentum v) with nesterov (Sutskever et al. 2013). A parameter's first velocity is d itself,
/// without dampening. With maximize g counts as -g. Parameters that no backward pass has reached since zero_grad are
/// left alone. Parameters may move to another device at any time, their velocity goes with them.
template <class eT>
class Sgd {
 public:
  using Parameters = nn::ParameterList<eT>;
  struct Group {
    Parameters parameters;
    SgdOptions options;
  };

  /// OptionError for a rate or decay that is negative or not finite, momentum outside [0, 1), dampening that is not
  /// finite, nesterov without momentum or with dampening, no parameter at all, or one that occurs twice.
  explicit Sgd(Parameters parameters, SgdOptions options = {});
  /// Groups of parameters with options of their own.
  explicit Sgd(std::vector<Group> groups);
  Sgd(Sgd&&) noexcept;
  Sgd& operator=(Sgd&&) noexcept;
  ~Sgd();

  void zero_grad();
  void step();
  /// zero_grad, loss.backward() and step in one, to be preferred where nothing looks at the gradients in between. A
  /// gradient that is one product (or sum) is never formed: the product is added to the parameter, or to the velocity,
  /// itself (without weight decay, dampening and nesterov; on the CPU). `Parameter::grad` is zeros afterwards where
  /// that was so. The results differ from those of the three calls by rounding only. A backward pass that throws may
  /// leave some parameters stepped. Throws as Var::backward.
  void minimize(Var<eT> loss);

  std::size_t groups() const;
  /// OptionError for a group that is not there; the same below.
  double lr(std::size_t group = 0) const;
  /// The rate for the next steps, also those of a replay captured before.
  void set_lr(double lr, std::size_t group = 0);

  /// Scales all gradients so that their common 2-norm is at most `limit`; returns the norm before. Call it between
  /// backward and step. DeviceError unless all parameters are on one device. (PyTorch divides by the norm + 1e-6.)
  double clip_grad_norm(double limit);
  /// Limits every entry of the gradients to [-limit, limit].
  void clip_grad_value(double limit);

 private:
  void keep_for_replay() const;
  struct State;
  State& state() const;
  std::shared_ptr<State> state_;  // a replay shares it
};

}  // namespace armagrad::optim
