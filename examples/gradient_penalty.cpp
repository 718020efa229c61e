// A network trained with its own input gradient in the loss (WGAN-GP's penalty): the critic of a two-dimensional
// Wasserstein distance must have slope 1 between the two clouds it tells apart.
#include <cstdio>

#include <armagrad/armagrad.hpp>

namespace ag = armagrad;

struct Critic : ag::nn::Module<double> {
  ag::nn::Linear<double> l1{2, 32}, l2{32, 32}, l3{32, 1};
  ARMAGRAD_MODULE(l1, l2, l3)
  ag::Var<double> forward(ag::Var<double> x) { return l3(tanh(l2(tanh(l1(x))))); }  // 2 x batch to 1 x batch
};

int main() {
  ag::nn::seed(7);
  auto& random = ag::nn::default_generator();
  const arma::uword n = 128;
  const auto cloud = [&](double x, double y) {  // around (x, y)
    arma::mat points(2, n);
    points.imbue([&] { return 0.3 * random.normal(); });
    points.row(0) += x;
    points.row(1) += y;
    return points;
  };

  Critic critic;
  ag::optim::Sgd<double> sgd(critic.parameters(), {.lr = 0.001, .momentum = 0.9});
  ag::Tape<double> tape;
  for (int step = 0; step <= 600; ++step) {
    const arma::mat a = cloud(0, 0), b = cloud(3, 4);  // the distance is 5
    arma::rowvec u(n);
    u.imbue([&] { return random.uniform(); });
    const arma::mat between = a.each_row() % u + b.each_row() % (1 - u);
    tape.rewind();
    // [penalty]
    const auto score = [&](const arma::mat& x) { return mean(critic(tape.constant(x)), 1); };
    const ag::Var<double> x = tape.variable(between);                // 2 x n
    const ag::Var<double> steepness = grad(accu(critic(x)), x);      // 2 x n, of each point by itself
    const ag::Var<double> length = sqrt(sum(square(steepness), 0));  // 1 x n
    const ag::Var<double> gap = score(b) - score(a);                 // the distance, once the slope is right
    const ag::Var<double> loss = 100 * mean(square(length - 1), 1) - gap;
    sgd.zero_grad();
    loss.backward();  // through the input gradient, to the weights
    // [/penalty]
    sgd.step();
    if (step % 150 == 0)
      std::printf("step %d: slope %.1f, distance %.0f\n", step, arma::mean(arma::vectorise(length.value())),
                  gap.item());
  }
}
