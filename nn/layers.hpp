// Layers. Inputs and outputs are features x batch.
#pragma once

#include <armagrad/nn/module.hpp>
#include <armagrad/nn/random.hpp>

namespace armagrad::nn {

/// W x + b. `weight` is out x in, `bias` out x 1, both drawn uniform in +-1/sqrt(in), as PyTorch does.
template <class eT>
class Linear : public Module<eT> {
 public:
  /// OptionError unless both counts are positive.
  Linear(arma::uword in, arma::uword out, Generator& random = default_generator());
  Var<eT> forward(Var<eT> x) { return affine(weight, x, bias); }

  Parameter<eT> weight;
  Parameter<eT> bias;
  ARMAGRAD_MODULE(weight, bias)
};

#define ARMAGRAD_ACTIVATION(Name, function)            \
  template <class eT>                                  \
  class Name : public Module<eT> {                     \
   public:                                             \
    Var<eT> forward(Var<eT> x) { return function(x); } \
    ARMAGRAD_MODULE()                                  \
  };
ARMAGRAD_ACTIVATION(Relu, relu)
ARMAGRAD_ACTIVATION(Tanh, tanh)
ARMAGRAD_ACTIVATION(Sigmoid, sigmoid)
ARMAGRAD_ACTIVATION(Gelu, gelu)
#undef ARMAGRAD_ACTIVATION

/// In training sets each element to 0 with probability p and scales the others by 1 / (1 - p); in evaluation nothing
/// (Srivastava et al. 2014). The masks follow from the seed and the number of calls so far; a seed that is not given is
/// drawn as weights are, so that several layers differ.
template <class eT>
class Dropout : public Module<eT> {
 public:
  /// OptionError unless 0 <= p < 1.
  explicit Dropout(double p = 0.5, std::uint64_t seed = default_generator().bits());
  Var<eT> forward(Var<eT> x);

  std::uint64_t calls = 0;
  ARMAGRAD_MODULE(calls)

 private:
  double p_;
  std::uint64_t seed_;
};

/// Modules called one after the other: Sequential<float> net{Linear<float>{64, 32}, Relu<float>{}, ...}. Holds copies;
/// copying it clones them.
template <class eT>
class Sequential : public Module<eT> {
 public:
  template <class... Modules>
  requires(std::is_base_of_v<Module<eT>, std::decay_t<Modules>>&&...) &&
      (sizeof...(Modules) != 1 ||
       (!std::is_same_v<std::decay_t<Modules>, Sequential> && ...)) explicit Sequential(Modules&&... modules) {
    (add(std::forward<Modules>(modules)), ...);
  }
  Sequential(const Sequential& other) : Module<eT>(other) {
    for (const Layer& l : other.layers_) layers_.push_back({l.clone(*l.module), l.call, l.clone});
  }
  Sequential(Sequential&&) noexcept = default;
  Sequential& operator=(const Sequential& other) { return *this = Sequential(other); }
  Sequential& operator=(Sequential&&) noexcept = default;

  template <class M>
  requires std::is_base_of_v<Module<eT>, std::decay_t<M>>
  void add(M&& module) {
    using T = std::decay_t<M>;
    layers_.push_back({std::make_unique<T>(std::forward<M>(module)),
                       [](Module<eT>& m, Var<eT> x) { return static_cast<T&>(m)(x); },
                       [](const Module<eT>& m) -> std::unique_ptr<Module<eT>> {
                         return std::make_unique<T>(static_cast<const T&>(m));
                       }});
  }

  std::size_t size() const { return layers_.size(); }
  Module<eT>& operator[](std::size_t i) { return *layers_[i].module; }

  Var<eT> forward(Var<eT> x) {
    for (Layer& l : layers_) x = l.call(*l.module, x);
    return x;
  }
  void visit(Visitor& visitor) override {
    for (std::size_t i = 0; i < layers_.size(); ++i) visitor.module(std::to_string(i), *layers_[i].module);
  }
  ARMAGRAD_CALL()

 private:
  struct Layer {
    std::unique_ptr<Module<eT>> module;
    Var<eT> (*call)(Module<eT>&, Var<eT>);
    std::unique_ptr<Module<eT>> (*clone)(const Module<eT>&);
  };
  std::vector<Layer> layers_;
};

}  // namespace armagrad::nn
