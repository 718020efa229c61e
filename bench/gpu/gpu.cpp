// What the CUDA device is worth, as lines of "name value unit": training steps, attack steps, and the rate of the bare
// products at the same shapes. bench/gpu.sh runs it beside PyTorch (peer.py prints the same names).
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

#include <armagrad/armagrad.hpp>
#include <armagrad/autodiff/device/capture.hpp>
#include <armagrad/autodiff/device/kernels.hpp>
#include <armagrad/autodiff/graph.hpp>

namespace ag = armagrad;
using Clock = std::chrono::steady_clock;

namespace {

struct Mlp : ag::nn::Module<float> {
  ag::nn::Linear<float> l1, l2, l3;
  Mlp(arma::uword in, arma::uword h1, arma::uword h2) : l1(in, h1), l2(h1, h2), l3(h2, 10) {}
  ARMAGRAD_MODULE(l1, l2, l3)
  ag::Var<float> forward(ag::Var<float> x) {
    return l3(affine_relu(l2.weight, affine_relu(l1.weight, x, l1.bias), l2.bias));
  }
};

ag::Device device = ag::Device::cpu();
double seconds_each = 0.5;  // of every measurement

void tell(const std::string& name, double value, const char* unit) {
  std::printf("%s %.6g %s\n", name.c_str(), value, unit);
  std::fflush(stdout);
}

/// Seconds per call of `run(times)` divided by times, the median of nine stretches of `seconds_each` in all.
double seconds_of(const std::function<void(std::size_t)>& run) {
  const auto timed = [&](std::size_t times) {
    device.backend().synchronize();
    const auto start = Clock::now();
    run(times);
    device.backend().synchronize();
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  std::size_t times = 1;
  timed(1);
  while (timed(times) < seconds_each / 20 && times < (std::size_t{1} << 20)) times *= 2;
  std::vector<double> each;
  for (int k = 0; k < 9; ++k) each.push_back(timed(times) / static_cast<double>(times));
  std::nth_element(each.begin(), each.begin() + 4, each.end());
  return each[4];
}

arma::fmat pixels(arma::uword rows, arma::uword cols) { return arma::randu<arma::fmat>(rows, cols); }
arma::Row<std::size_t> classes(arma::uword n) {
  arma::Row<std::size_t> y(n);
  for (arma::uword j = 0; j < n; ++j) y[j] = (7 * j + 3) % 10;
  return y;
}

/// The products of a training step of this network (no gradient by the input), or of an attack's (none by weights), in
/// one recording: what cuBLAS makes of these shapes is the limit.
double product_seconds(const std::vector<std::uint32_t>& widths, std::uint32_t batch, bool attack) {
  using K = ag::detail::kernels<float>;
  std::vector<void*> memory;
  const auto matrix = [&](std::uint32_t rows, std::uint32_t cols) {
    const std::vector<float> zeros(std::size_t{rows} * cols, 0.01f);
    memory.push_back(device.backend().allocate(zeros.size() * sizeof(float)));
    device.backend().upload(memory.back(), zeros.data(), zeros.size() * sizeof(float));
    return ag::View<float>{static_cast<float*>(memory.back()), rows, cols, rows};
  };
  std::vector<ag::View<float>> values{matrix(widths[0], batch)}, gradients{matrix(widths[0], batch)}, weights, updates;
  for (std::size_t k = 1; k < widths.size(); ++k) {
    values.push_back(matrix(widths[k], batch));
    gradients.push_back(matrix(widths[k], batch));
    weights.push_back(matrix(widths[k], widths[k - 1]));
    updates.push_back(matrix(widths[k], widths[k - 1]));
  }
  std::vector<ag::Command<float>> list;
  const auto product = [&](ag::View<float> out, ag::View<float> a, ag::View<float> b, std::uint32_t flags) {
    ag::Command<float> c;
    c.kernel = &K::gemm;
    c.out = out;
    c.in[0] = a;
    c.in[1] = b;
    c.flags = flags;
    list.push_back(c);
  };
  for (std::size_t k = 0; k + 1 < widths.size(); ++k) product(values[k + 1], weights[k], values[k], 0);
  for (std::size_t k = widths.size() - 1; k-- > 0;) {
    if (attack || k > 0) product(gradients[k], weights[k], gradients[k + 1], ag::transpose_a);
    if (!attack) product(updates[k], gradients[k + 1], values[k], ag::transpose_b);
  }
  for (const auto& c : list) device.backend().run(c);
  std::uint64_t runs = 0;
  const auto recording = device.backend().record(list.data(), list.size(), &runs);
  const double seconds = seconds_of([&](std::size_t times) {
    runs += times;
    if (recording != nullptr) return recording->run(times);
    for (; times > 0; --times)
      for (const auto& c : list) device.backend().run(c);
  });
  for (void* m : memory) device.backend().release(m);
  return seconds;
}

double flops(const std::vector<std::uint32_t>& widths, std::uint32_t batch, bool attack) {
  double total = 0;
  for (std::size_t k = 1; k < widths.size(); ++k)
    total += (attack ? 2 : k == 1 ? 2 : 3) * 2.0 * widths[k] * widths[k - 1] * batch;
  return total;
}

void training(const std::string& name, const std::vector<std::uint32_t>& widths, std::uint32_t batch) {
  Mlp model(widths[0], widths[1], widths[2]);
  model.to(device);
  ag::optim::Sgd<float> sgd(model.parameters(), {.lr = 0.01});
  ag::Parameter<float> data(pixels(widths[0], batch));
  data.set_trainable(false);
  data.to(device);
  const auto labels = classes(batch);
  ag::Tape<float> tape(device);
  const auto eager = [&] {
    tape.rewind();
    sgd.zero_grad();
    ag::nn::cross_entropy(model(tape.parameter(data)), labels).backward();
    sgd.step();
  };
  tell(name + ".eager", 1e6 * seconds_of([&](std::size_t times) {
                          for (; times > 0; --times) eager();
                        }),
       "us");
  tape.rewind();
  const auto y = tape.labels(labels);
  auto replay = tape.capture([&] {
    sgd.zero_grad();
    ag::nn::cross_entropy(model(tape.parameter(data)), y).backward();
    sgd.step();
  });
  const double step = seconds_of([&](std::size_t times) { replay.run(times); });
  const double products = product_seconds(widths, batch, false);
  tell(name + ".graph", 1e6 * step, "us");
  tell(name + ".products", 1e6 * products, "us");
  tell(name + ".rate", flops(widths, batch, false) / step / 1e12, "TFLOP/s");
  tell(name + ".share_of_products", products / step, "");
}

/// One step of PGD on `batch` images: the input's gradient, its sign, the step and the clamp, written over delta.
void attack(const std::string& name, std::uint32_t batch) {
  const std::vector<std::uint32_t> widths{784, 1024, 1024, 10};
  Mlp model(784, 1024, 1024);
  model.to(device);
  model.set_trainable(false);
  ag::Parameter<float> data(pixels(784, batch));
  data.set_trainable(false);
  data.to(device);
  ag::Tape<float> tape(device);
  const auto delta = tape.variable(arma::fmat(784, batch, arma::fill::zeros));
  const auto y = tape.labels(classes(batch));
  auto replay = tape.capture([&] {
    const auto loss = cross_entropy_sum(model(tape.parameter(data) + delta), y);
    const auto next = clamp(delta + 1000.0f * sign(grad(loss, delta)), -0.05, 0.05);
    ag::Command<float> back;
    back.kernel = &ag::detail::kernels<float>::copy;
    auto& g = tape.graph();
    back.in[0] = g.value(next.index());
    const auto& node = g.node(delta.index());
    back.out = {node.value, node.shape.rows, node.shape.cols, node.shape.rows};
    g.run(back, "attack");
  });
  const double step = seconds_of([&](std::size_t times) { replay.run(times); });
  const double products = product_seconds(widths, batch, true);
  tell(name + ".graph", 1e6 * step, "us");
  tell(name + ".products", 1e6 * products, "us");
  tell(name + ".rate", flops(widths, batch, true) / step / 1e12, "TFLOP/s");
  tell(name + ".share_of_products", products / step, "");
  // The same by the library's attack, which judges every iterate on the host; nothing retires.
  ag::robust::PgdOptions<float> options;
  options.step = 1000;
  options.judge = ag::robust::Judge::final_iterate;
  options.retire = false;
  options.width = batch;
  const auto x = pixels(784, batch);
  const auto labels = classes(batch);
  const auto passes = [&](std::size_t iterations) {
    options.iterations = iterations;
    const auto start = Clock::now();
    ag::robust::pgd(model, x, labels, 0.05, options);
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  const double few = passes(2), more = passes(22);  // without what comes before the first and after the last
  tell(name + ".library", 1e6 * (more - few) / 20, "us");
  // The published sweep, 60,000 images at 11 budgets with 1000 iterations, in steps like this one.
  tell(name + ".sweep", 60000.0 / batch * 11 * 1000 * step, "s");
}

}  // namespace

// usage: gpu cpu|cuda [seconds per measurement] [tf32]
int main(int count, char** arguments) try {
  const std::string on = count > 1 ? arguments[1] : "cuda";
  if (on == "cuda") device = ag::Device::cuda();
  if (count > 2) seconds_each = std::atof(arguments[2]);
  if (count > 3) device.allow_tf32(true);
  std::printf("device %s\n", device.description());
  const bool small_only = seconds_each < 0.01;  // to see that it runs
  training("small", {64, 32, 16, 10}, 64);
  for (const std::uint32_t batch : {128u, 1024u, 8192u})
    if (!small_only) training("large." + std::to_string(batch), {784, 1024, 1024, 10}, batch);
  attack("pgd", small_only ? 10 : 10000);
} catch (const ag::Error& e) {
  std::cerr << e.what() << "\n";
  return 1;
}
