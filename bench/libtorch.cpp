// PyTorch's C++ interface, from the same package as the Python contestants.
#include <torch/torch.h>
#include <torch/version.h>

#include "bench/contestant.hpp"

namespace {

using armagrad::bench::Problem;

class Libtorch final : public armagrad::bench::Contestant {
 public:
  explicit Libtorch(const Problem& p) : p_(p) {
    for (std::size_t l = 0; l < p.depth(); ++l) {
      layers_.push_back(
          torch::nn::Linear(static_cast<std::int64_t>(p.layers[l]), static_cast<std::int64_t>(p.layers[l + 1])));
      model_->push_back(layers_.back());
      if (l + 1 < p.depth()) model_->push_back(torch::nn::ReLU());
    }
    // Features x batch by columns is batch x features by rows.
    x_ = torch::tensor(p.x).view({static_cast<std::int64_t>(p.batch), static_cast<std::int64_t>(p.layers.front())});
    labels_ = torch::tensor(p.labels).to(torch::kLong);
    if (p.step == Problem::Step::attack) {
      for (auto& parameter : model_->parameters()) parameter.set_requires_grad(false);
      delta_ = torch::zeros_like(x_, torch::requires_grad());
    }
    Libtorch::reset();
  }

  void reset() override {
    const torch::NoGradGuard guard;
    for (std::size_t l = 0; l < p_.depth(); ++l) {
      const auto in = static_cast<std::int64_t>(p_.layers[l]), out = static_cast<std::int64_t>(p_.layers[l + 1]);
      layers_[l]->weight.copy_(torch::tensor(p_.weights[l]).view({in, out}).t());
      layers_[l]->bias.copy_(torch::tensor(p_.biases[l]));
    }
    if (delta_.defined()) delta_.zero_();
    if (p_.step == Problem::Step::train)
      sgd_ = std::make_unique<torch::optim::SGD>(model_->parameters(),
                                                 torch::optim::SGDOptions(p_.lr).momentum(p_.momentum));
  }

  void step() override {
    if (p_.step == Problem::Step::train) {
      sgd_->zero_grad();
      loss_ = torch::nn::functional::cross_entropy(model_->forward(x_), labels_);
      loss_.backward();
      sgd_->step();
    } else {
      loss_ =
          torch::nn::functional::cross_entropy(model_->forward(x_ + delta_), labels_,
                                               torch::nn::functional::CrossEntropyFuncOptions().reduction(torch::kSum));
      const auto gradient = torch::autograd::grad({loss_}, {delta_}).front();
      const torch::NoGradGuard guard;
      delta_.add_(gradient.sign_(), p_.alpha).clamp_(-p_.epsilon, p_.epsilon);
    }
  }

  double loss() override { return loss_.item<double>(); }

 private:
  Problem p_;
  std::vector<torch::nn::Linear> layers_;
  torch::nn::Sequential model_;
  std::unique_ptr<torch::optim::SGD> sgd_;
  torch::Tensor x_, labels_, delta_, loss_;
};

// The line of torch::show_config() that names the BLAS.
std::string blas() {
  std::istringstream lines(torch::show_config());
  std::string found;
  for (std::string line; std::getline(lines, line);) {
    for (const char* name : {"Math Kernel Library Version", "OpenBLAS", "CPU capability usage"}) {
      if (line.find(name) == std::string::npos) continue;
      found += (found.empty() ? "" : "; ") + line.substr(std::min(line.find_first_not_of(" -"), line.size()));
    }
  }
  return found;
}

}  // namespace

int main(int argc, char** argv) {
  const char* threads = std::getenv("OMP_NUM_THREADS");
  torch::set_num_threads(threads == nullptr ? 1 : std::atoi(threads));
  torch::set_num_interop_threads(1);
  return armagrad::bench::serve(argc, argv,
                                {{"version", TORCH_VERSION}, {"blas", blas()}, {"threads", torch::get_num_threads()}},
                                [](const Problem& p) { return std::make_unique<Libtorch>(p); });
}
