// The floor: forward, backward and update by hand, with BLAS for the products and a plain loop for everything else.
// All memory is taken once; every loop runs along columns in memory; an update is its own pass, as in every framework.
#include <algorithm>
#include <cmath>
#include <vector>

#include <dlfcn.h>

#include "bench/contestant.hpp"

extern "C" void sgemm_(const char* ta, const char* tb, const int* m, const int* n, const int* k, const float* alpha,
                       const float* a, const int* lda, const float* b, const int* ldb, const float* beta, float* c,
                       const int* ldc, std::size_t ta_length, std::size_t tb_length);

namespace {

using armagrad::bench::Problem;
using Clock = std::chrono::steady_clock;
using Floats = std::vector<float>;

double* product_clock = nullptr;  // where products add their seconds, in profiled steps

// C = op(A) op(B), m x n, k summed over.
void product(char ta, char tb, std::size_t rows, std::size_t cols, std::size_t inner, const float* a, const float* b,
             float* c) {
  const int m = static_cast<int>(rows), n = static_cast<int>(cols), k = static_cast<int>(inner);
  const int lda = ta == 'N' ? m : k, ldb = tb == 'N' ? k : n;
  const float one = 1, zero = 0;
  const auto begin = product_clock != nullptr ? Clock::now() : Clock::time_point();
  sgemm_(&ta, &tb, &m, &n, &k, &one, a, &lda, b, &ldb, &zero, c, &m, 1, 1);
  if (product_clock != nullptr) *product_clock += std::chrono::duration<double>(Clock::now() - begin).count();
}

struct Layer {
  std::size_t in, out;
  Floats w, b;    // out x in, out
  Floats dw, db;  // as w, b
  Floats vw, vb;  // velocities, as w, b
  Floats h;       // out x batch: after ReLU; the last layer's logits
  Floats dz;      // out x batch
};

class HandWritten final : public armagrad::bench::Contestant {
 public:
  explicit HandWritten(const Problem& problem) : p_(problem), layers_(problem.depth()) {
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      Layer& layer = layers_[l];
      layer.in = p_.layers[l];
      layer.out = p_.layers[l + 1];
      layer.dz.resize(layer.out * p_.batch);
      layer.h.resize(layer.out * p_.batch);
      if (p_.step == Problem::Step::train) {
        layer.dw.resize(layer.out * layer.in);
        layer.db.resize(layer.out);
        if (p_.momentum != 0) {
          layer.vw.resize(layer.out * layer.in);
          layer.vb.resize(layer.out);
        }
      }
    }
    if (p_.step == Problem::Step::attack) {
      attacked_.resize(p_.x.size());
      dx_.resize(p_.x.size());
    }
    HandWritten::reset();
  }

  void reset() override {
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      layers_[l].w = p_.weights[l];
      layers_[l].b = p_.biases[l];
      std::fill(layers_[l].vw.begin(), layers_[l].vw.end(), 0.0F);
      std::fill(layers_[l].vb.begin(), layers_[l].vb.end(), 0.0F);
    }
    attacked_ = p_.step == Problem::Step::attack ? p_.x : Floats();
  }

  void step() override {
    if (p_.step == Problem::Step::train) {
      forward(p_.x.data());
      for (std::size_t l = layers_.size(); l-- > 0;) {
        Layer& layer = layers_[l];
        const float* below = l > 0 ? layers_[l - 1].h.data() : p_.x.data();
        product('N', 'T', layer.out, layer.in, p_.batch, layer.dz.data(), below, layer.dw.data());  // dz below'
        std::fill(layer.db.begin(), layer.db.end(), 0.0F);
        for (std::size_t j = 0; j < p_.batch; ++j) {
          const float* dz = layer.dz.data() + j * layer.out;
          float* db = layer.db.data();
          for (std::size_t i = 0; i < layer.out; ++i) db[i] += dz[i];
        }
        if (l > 0) backward_through(l);
      }
      for (Layer& layer : layers_) {
        update(layer.w, layer.dw, layer.vw);
        update(layer.b, layer.db, layer.vb);
      }
    } else {
      forward(attacked_.data());
      for (std::size_t l = layers_.size() - 1; l > 0; --l) backward_through(l);
      Layer& first = layers_.front();
      product('T', 'N', first.in, p_.batch, first.out, first.w.data(), first.dz.data(), dx_.data());  // W' dz
      const float alpha = p_.alpha, epsilon = p_.epsilon;
      const float *x = p_.x.data(), *dx = dx_.data();
      float* attacked = attacked_.data();
      for (std::size_t i = 0; i < p_.x.size(); ++i) {
        const float sign = static_cast<float>(dx[i] > 0) - static_cast<float>(dx[i] < 0);
        attacked[i] = std::min(std::max(attacked[i] + alpha * sign, x[i] - epsilon), x[i] + epsilon);
      }
    }
  }

  double loss() override { return loss_; }

  std::optional<Share> profiled_step() override {
    double products = 0;
    product_clock = &products;
    const auto begin = Clock::now();
    step();
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    product_clock = nullptr;
    return Share{seconds, products};
  }

 private:
  // The loss, and the last layer's dz: softmax - one hot, divided by the batch where the loss is a mean.
  void forward(const float* x) {
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      Layer& layer = layers_[l];
      const bool last = l + 1 == layers_.size();
      product('N', 'N', layer.out, p_.batch, layer.in, layer.w.data(), l > 0 ? layers_[l - 1].h.data() : x,
              layer.h.data());  // W h
      const float* b = layer.b.data();
      for (std::size_t j = 0; j < p_.batch; ++j) {
        float* h = layer.h.data() + j * layer.out;
        if (last)
          for (std::size_t i = 0; i < layer.out; ++i) h[i] += b[i];
        else
          for (std::size_t i = 0; i < layer.out; ++i) h[i] = std::max(h[i] + b[i], 0.0F);
      }
    }
    Layer& top = layers_.back();
    const float scale = p_.step == Problem::Step::train ? 1 / static_cast<float>(p_.batch) : 1;
    float total = 0;
    for (std::size_t j = 0; j < p_.batch; ++j) {
      const float* z = top.h.data() + j * top.out;
      float* dz = top.dz.data() + j * top.out;
      const auto label = static_cast<std::size_t>(p_.labels[j]);
      float largest = z[0];
      for (std::size_t i = 1; i < top.out; ++i) largest = std::max(largest, z[i]);
      float sum = 0;
      for (std::size_t i = 0; i < top.out; ++i) sum += dz[i] = std::exp(z[i] - largest);
      const float factor = scale / sum;
      for (std::size_t i = 0; i < top.out; ++i) dz[i] *= factor;
      dz[label] -= scale;
      total += std::log(sum) + largest - z[label];
    }
    loss_ = static_cast<double>(total * scale);
  }

  // dz of layer l - 1 from that of layer l.
  void backward_through(std::size_t l) {
    Layer &above = layers_[l], &below = layers_[l - 1];
    product('T', 'N', above.in, p_.batch, above.out, above.w.data(), above.dz.data(), below.dz.data());  // W' dz
    const float* h = below.h.data();
    float* dz = below.dz.data();
    for (std::size_t i = 0; i < below.h.size(); ++i) dz[i] = h[i] > 0 ? dz[i] : 0;
  }

  void update(Floats& values, const Floats& gradient, Floats& velocity) const {
    const std::size_t n = values.size();
    const float lr = p_.lr, momentum = p_.momentum;
    const float* d = gradient.data();
    float *w = values.data(), *v = velocity.data();
    if (velocity.empty()) {
      for (std::size_t i = 0; i < n; ++i) w[i] -= lr * d[i];
    } else {
      for (std::size_t i = 0; i < n; ++i) {
        v[i] = momentum * v[i] + d[i];
        w[i] -= lr * v[i];
      }
    }
  }

  Problem p_;
  std::vector<Layer> layers_;
  Floats attacked_, dx_;  // attack: features x batch
  double loss_ = 0;
};

// The BLAS that answers here, by its own words: "OpenBLAS 0.3.21 (SkylakeX kernels)".
std::string blas() {
  auto* config = reinterpret_cast<const char* (*)()>(dlsym(RTLD_DEFAULT, "openblas_get_config"));
  auto* core = reinterpret_cast<const char* (*)()>(dlsym(RTLD_DEFAULT, "openblas_get_corename"));
  if (config == nullptr || core == nullptr) return "a BLAS that does not name itself";
  std::istringstream words(config());  // OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH ...
  std::string library, version;
  words >> library >> version;
  return library + " " + version + " (" + core() + " kernels)";
}

int blas_threads() {
  auto* threads = reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "openblas_get_num_threads"));
  return threads == nullptr ? 0 : threads();
}

}  // namespace

int main(int argc, char** argv) {
  using namespace armagrad::bench;
  return serve(argc, argv, {{"version", "g++ " __VERSION__}, {"blas", blas()}, {"threads", blas_threads()}},
               [](const Problem& p) { return std::make_unique<HandWritten>(p); });
}
