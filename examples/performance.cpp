// Where a step's time goes, on kernels of BLAS that suit the processor.
#include <iostream>

#include <armagrad/armagrad.hpp>

namespace ag = armagrad;

int main() {
  // [restart]
  ag::restart_with_fast_blas();  // returns at once when all is well
  // [/restart]
  ag::nn::Sequential<float> model{ag::nn::Linear<float>{64, 32}, ag::nn::Relu<float>{}, ag::nn::Linear<float>{32, 10}};
  ag::optim::Sgd<float> sgd(model.parameters(), {.lr = 0.1});
  ag::Tape<float> tape;
  const arma::fmat x(64, 100, arma::fill::randu);
  const arma::Row<std::size_t> y(100, arma::fill::zeros);
  // [profile]
  const ag::Profile profile = tape.profile([&] {
    const auto loss = ag::nn::cross_entropy(model(tape.constant(x)), y);
    sgd.minimize(loss);
  });
  std::cerr << profile.table();
  profile.write_trace("step.json");  // for chrome://tracing or Perfetto
  // [/profile]
  std::size_t products = 0;
  for (const auto& entry : profile.entries) products += entry.flops > 0;
  std::cout << products << " products; advice: '" << ag::machine().advice << "'\n";
}
