#include <fmt/format.h>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/graph.hpp>
#include <armagrad/nn/init.hpp>
#include <armagrad/nn/layers.hpp>

namespace armagrad::nn {

template <class eT>
Linear<eT>::Linear(arma::uword in, arma::uword out, Generator& random)
    : weight(out, in), bias(Parameter<eT>::vector(out)) {
  if (in == 0 || out == 0)
    throw OptionError(fmt::format("Linear: {} inputs and {} outputs; both must be positive", in, out));
  init::linear_default(weight, in, random);
  init::linear_default(bias, in, random);
}

template <class eT>
Dropout<eT>::Dropout(double p, std::uint64_t seed) : p_(p), seed_(seed) {
  if (!(p >= 0 && p < 1)) throw OptionError(fmt::format("Dropout: p is {}; it must be at least 0 and below 1", p));
}

template <class eT>
Var<eT> Dropout<eT>::forward(Var<eT> x) {
  if (!this->training() || p_ == 0) return x;
  return dropout(x, p_, seed_, x.graph().draw(calls));
}

template class Linear<float>;
template class Linear<double>;
template class Dropout<float>;
template class Dropout<double>;

}  // namespace armagrad::nn
