// Attacks on a model on the CUDA device, beside the same on the CPU, and certificates of such a model.
#define BOOST_TEST_MODULE cuda_attacks
#include <cstring>
#include <limits>

#include <armagrad/armagrad.hpp>

#include "cuda_device.hpp"

namespace ag = armagrad;
namespace robust = armagrad::robust;
using Labels = arma::Row<std::size_t>;
using robust::Judge;

namespace {

template <class eT>
struct Mlp : ag::nn::Module<eT> {
  explicit Mlp(std::uint64_t seed = 5) : random(seed), l1(20, 32, random), l2(32, 32, random), l3(32, 4, random) {
    for (auto& p : this->named_parameters()) p.parameter->set_value(p.parameter->value() * eT(2));
  }
  ag::nn::Generator random;
  ag::nn::Linear<eT> l1, l2, l3;
  ARMAGRAD_MODULE(l1, l2, l3)
  ag::Var<eT> forward(ag::Var<eT> x) { return l3(relu(l2(relu(l1(x))))); }
  robust::Layers<eT> layers() { return robust::layers(l1, ag::nn::Relu<eT>{}, l2, ag::nn::Relu<eT>{}, l3); }
};

template <class eT>
struct Examples {
  arma::Mat<eT> x = arma::Mat<eT>(20, 40);
  Labels y;
  Mlp<eT> cpu, cuda;
  Examples() {
    ag::nn::Generator random(11);
    for (eT& v : x) v = static_cast<eT>(random.uniform());
    y = robust::predict(cpu, x);
    for (arma::uword j = 0; j < y.n_elem; j += 9) y[j] = (y[j] + 1) % 4;
    cuda = cpu;
    cuda.to(ag::Device(device()));
  }
};

}  // namespace

BOOST_AUTO_TEST_CASE_TEMPLATE(rates_are_the_cpus, eT, ElementTypes) {
  if (skipped()) return;
  Examples<eT> e;
  BOOST_TEST(arma::all(robust::predict(e.cuda, e.x) == robust::predict(e.cpu, e.x)));
  BOOST_TEST(arma::abs(robust::input_gradient(e.cuda, e.x, e.y) - robust::input_gradient(e.cpu, e.x, e.y)).max() <
             1000 * std::numeric_limits<eT>::epsilon());
  std::size_t successes = 0, attempts = 0;
  for (const Judge judge : {Judge::any_iterate, Judge::final_iterate})
    for (const auto norm : {robust::Norm::l_inf, robust::Norm::l_2})
      for (const auto loss : {robust::Loss::cross_entropy, robust::Loss::margin}) {
        robust::PgdOptions<eT> o;
        o.norm = norm;
        o.loss = loss;
        o.judge = judge;
        o.iterations = 10;
        o.width = 16;
        o.clip = {{0, 1}};
        const double epsilon = norm == robust::Norm::l_inf ? 0.1 : 0.3;
        const auto on_cpu = robust::pgd(e.cpu, e.x, e.y, epsilon, o),
                   on_cuda = robust::pgd(e.cuda, e.x, e.y, epsilon, o);
        BOOST_TEST(arma::all(on_cuda.success == on_cpu.success));
        successes += accu(on_cpu.success), attempts += on_cpu.success.n_elem;
      }
  BOOST_TEST(successes > attempts / 10);
  BOOST_TEST(successes < attempts * 9 / 10);
  const std::vector<double> epsilons{0.01, 0.03, 0.1};
  const auto on_cpu = robust::fgsm_curve(e.cpu, e.x, e.y, epsilons),
             on_cuda = robust::fgsm_curve(e.cuda, e.x, e.y, epsilons);
  BOOST_TEST(arma::accu(on_cuda.success != on_cpu.success) == 0u);
}

// Taking examples out as they are done changes no bit of any answer, and saves passes.
BOOST_AUTO_TEST_CASE_TEMPLATE(retiring_changes_nothing, eT, ElementTypes) {
  if (skipped()) return;
  Examples<eT> e;
  for (const Judge judge : {Judge::any_iterate, Judge::final_iterate}) {
    robust::PgdOptions<eT> o;
    o.judge = judge;
    o.step = 1000;  // from corner to corner: cycles come soon
    o.iterations = 40;
    o.width = 16;
    const auto retired = robust::pgd(e.cuda, e.x, e.y, 0.08, o);
    o.retire = false;
    const auto whole = robust::pgd(e.cuda, e.x, e.y, 0.08, o);
    BOOST_TEST(arma::all(retired.success == whole.success));
    BOOST_TEST(std::memcmp(retired.delta.memptr(), whole.delta.memptr(), whole.delta.n_elem * sizeof(eT)) == 0);
    BOOST_TEST(whole.passes == whole.passes_unretired);
    BOOST_TEST(retired.passes < whole.passes / 2);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_batchs_columns_may_be_permuted, eT, ElementTypes) {
  if (skipped()) return;
  Examples<eT> e;
  const arma::uvec order = arma::regspace<arma::uvec>(e.x.n_cols - 1, -1, 0);
  const arma::Mat<eT> there = robust::input_gradient(e.cuda, arma::Mat<eT>(e.x.cols(order)), Labels(e.y.cols(order)));
  const arma::Mat<eT> here = robust::input_gradient(e.cuda, e.x, e.y).cols(order);
  BOOST_TEST(std::memcmp(there.memptr(), here.memptr(), here.n_elem * sizeof(eT)) == 0);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(certificates_are_those_of_the_same_weights, eT, ElementTypes) {
  if (skipped()) return;
  Examples<eT> e;
  const auto on_cpu = robust::certified_epsilon(e.cpu.layers(), e.x, e.y);
  const auto on_cuda = robust::certified_epsilon(e.cuda.layers(), e.x, e.y);
  BOOST_TEST((on_cpu == on_cuda));
  // What an attack on the device fools is not certified.
  arma::Row<double> epsilons(e.x.n_cols);
  arma::uword certified = 0;
  for (arma::uword j = 0; j < e.x.n_cols; ++j) epsilons[j] = on_cpu[j].value_or(0), certified += on_cpu[j].has_value();
  BOOST_TEST(certified > 5u);
  robust::PgdOptions<eT> o;
  o.clip = {{0, 1}};
  const auto attack = robust::pgd(e.cuda, e.x, e.y, epsilons, o);
  for (arma::uword j = 0; j < e.x.n_cols; ++j)
    if (on_cpu[j]) BOOST_TEST(attack.success[j] == 0u);
}
