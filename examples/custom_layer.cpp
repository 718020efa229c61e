// A layer of one's own: members, their names, a forward. Layers contain layers.
#include <iostream>

#include <armagrad/armagrad.hpp>

namespace ag = armagrad;

// [layer]
/// y = scale % x + shift, one pair of numbers for each feature.
struct ScaleShift : ag::nn::Module<float> {
  explicit ScaleShift(arma::uword features) : scale(arma::fmat(features, 1, arma::fill::ones)), shift(features, 1) {}
  ag::Var<float> forward(ag::Var<float> x) { return scale % x + shift; }  // features x batch

  ag::Parameter<float> scale, shift;  // features x 1
  ARMAGRAD_MODULE(scale, shift)
};
// [/layer]

// [block]
/// y = x + W2 relu(W1 normed + b1) + b2, with `normed` from ScaleShift.
struct Residual : ag::nn::Module<float> {
  Residual(arma::uword features, arma::uword hidden) : norm(features), in(features, hidden), out(hidden, features) {}
  ag::Var<float> forward(ag::Var<float> x) { return x + out(relu(in(norm(x)))); }

  ScaleShift norm;
  ag::nn::Linear<float> in, out;
  ARMAGRAD_MODULE(norm, in, out)
};

struct Net : ag::nn::Module<float> {
  ag::nn::Linear<float> stem{64, 16};
  std::vector<Residual> blocks{2, Residual(16, 32)};
  ag::nn::Linear<float> head{16, 10};
  ARMAGRAD_MODULE(stem, blocks, head)
  ag::Var<float> forward(ag::Var<float> x) {
    x = stem(x);
    for (Residual& block : blocks) x = block(x);
    return head(x);
  }
};
// [/block]

// [forgotten]
struct Forgetful : ag::nn::Module<float> {
  ag::nn::Linear<float> l1{4, 4}, l2{4, 4};
  ARMAGRAD_MODULE(l1)  // l2 would never be trained or saved
  ag::Var<float> forward(ag::Var<float> x) { return l2(l1(x)); }
};
// [/forgotten]

int main() {
  Net net;
  std::cout << ag::nn::summary(net, {64, 128}) << net.parameter_count() << " parameters\n\n";
  for (const auto& p : net.named_parameters())
    std::cout << p.name << " " << p.parameter->n_rows() << "x" << p.parameter->n_cols() << "\n";
  std::cout << "\nunnamed in Net: " << ag::nn::unnamed_members<Net>().size() << "\n";
  for (const std::string& line : ag::nn::unnamed_members<Forgetful>()) std::cout << line << "\n";
}
