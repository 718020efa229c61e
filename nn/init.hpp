// Initial values of weights, out x in. Draws go down the columns, in double, whatever the element type.
#pragma once

#include <armagrad/autodiff/parameter.hpp>
#include <armagrad/nn/random.hpp>

namespace armagrad::nn::init {

template <class eT>
void uniform(Parameter<eT>& p, double low, double high, Generator& random = default_generator());
template <class eT>
void normal(Parameter<eT>& p, double mean, double deviation, Generator& random = default_generator());
template <class eT>
void constant(Parameter<eT>& p, double value);

/// As PyTorch draws a Linear: uniform in +-1/sqrt(fan_in), for the weight and the bias alike.
template <class eT>
void linear_default(Parameter<eT>& p, arma::uword fan_in, Generator& random = default_generator());
/// He et al. 2015, for layers before relu: uniform in +-sqrt(6 / fan_in), or normal with deviation sqrt(2 / fan_in).
template <class eT>
void kaiming_uniform(Parameter<eT>& weight, Generator& random = default_generator());
template <class eT>
void kaiming_normal(Parameter<eT>& weight, Generator& random = default_generator());
/// Glorot and Bengio 2010: uniform in +-sqrt(6 / (fan_in + fan_out)), or normal with deviation
/// sqrt(2 / (fan_in + fan_out)).
template <class eT>
void xavier_uniform(Parameter<eT>& weight, Generator& random = default_generator());
template <class eT>
void xavier_normal(Parameter<eT>& weight, Generator& random = default_generator());

}  // namespace armagrad::nn::init
