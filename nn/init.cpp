#include <cmath>
#include <iterator>
#include <numbers>
#include <sstream>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/nn/init.hpp>

namespace armagrad::nn {

double Generator::normal() {
  const double radius = std::sqrt(-2 * std::log1p(-uniform()));
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

std::vector<std::uint64_t> Generator::state() const {
  std::stringstream text;  // the standard gives the engine's state as text only
  text << engine_;
  return {std::istream_iterator<std::uint64_t>(text), {}};
}

void Generator::set_state(const std::vector<std::uint64_t>& state) {
  std::stringstream text;
  for (const std::uint64_t word : state) text << word << ' ';
  std::mt19937_64 engine;
  if (state.size() != this->state().size() || !(text >> engine))
    throw OptionError("Generator: these words are not the state of a generator");
  engine_ = engine;
}

Generator& default_generator() {
  thread_local Generator generator(0);
  return generator;
}

namespace init {
namespace {

template <class eT, class Draw>
void set(Parameter<eT>& p, Draw draw) {
  arma::Mat<eT> value(p.n_rows(), p.n_cols());
  for (eT& v : value) v = static_cast<eT>(draw());
  p.set_value(value);
}

}  // namespace

template <class eT>
void uniform(Parameter<eT>& p, double low, double high, Generator& random) {
  set(p, [&] { return random.uniform(low, high); });
}
template <class eT>
void normal(Parameter<eT>& p, double mean, double deviation, Generator& random) {
  set(p, [&] { return mean + deviation * random.normal(); });
}
template <class eT>
void constant(Parameter<eT>& p, double value) {
  set(p, [value] { return value; });
}
template <class eT>
void linear_default(Parameter<eT>& p, arma::uword fan_in, Generator& random) {
  const double bound = fan_in == 0 ? 0 : 1 / std::sqrt(static_cast<double>(fan_in));
  uniform(p, -bound, bound, random);
}
template <class eT>
void kaiming_uniform(Parameter<eT>& weight, Generator& random) {
  const double bound = std::sqrt(6.0 / static_cast<double>(weight.n_cols()));
  uniform(weight, -bound, bound, random);
}
template <class eT>
void kaiming_normal(Parameter<eT>& weight, Generator& random) {
  normal(weight, 0, std::sqrt(2.0 / static_cast<double>(weight.n_cols())), random);
}
template <class eT>
void xavier_uniform(Parameter<eT>& weight, Generator& random) {
  const double bound = std::sqrt(6.0 / static_cast<double>(weight.n_rows() + weight.n_cols()));
  uniform(weight, -bound, bound, random);
}
template <class eT>
void xavier_normal(Parameter<eT>& weight, Generator& random) {
  normal(weight, 0, std::sqrt(2.0 / static_cast<double>(weight.n_rows() + weight.n_cols())), random);
}

#define ARMAGRAD_INSTANTIATE(eT)                                         \
  template void uniform(Parameter<eT>&, double, double, Generator&);     \
  template void normal(Parameter<eT>&, double, double, Generator&);      \
  template void constant(Parameter<eT>&, double);                        \
  template void linear_default(Parameter<eT>&, arma::uword, Generator&); \
  template void kaiming_uniform(Parameter<eT>&, Generator&);             \
  template void kaiming_normal(Parameter<eT>&, Generator&);              \
  template void xavier_uniform(Parameter<eT>&, Generator&);              \
  template void xavier_normal(Parameter<eT>&, Generator&);
ARMAGRAD_INSTANTIATE(float)
ARMAGRAD_INSTANTIATE(double)
#undef ARMAGRAD_INSTANTIATE

}  // namespace init
}  // namespace armagrad::nn
