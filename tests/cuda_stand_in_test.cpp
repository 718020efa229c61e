// The host stand-in for CUDA: are faults that are put in on purpose noticed?
#define BOOST_TEST_MODULE cuda_stand_in
#include <cmath>
#include <csignal>
#include <vector>

#include <armagrad/autodiff/device/kernels.hpp>

#include "cuda_device.hpp"

using namespace armagrad;

namespace {

/// A matrix in device memory: 1, 2, 3, ...
class OnDevice {
 public:
  OnDevice(std::uint32_t rows, std::uint32_t cols)
      : view{static_cast<float*>(device().allocate(std::size_t{rows} * cols * sizeof(float))), rows, cols, rows} {
    std::vector<float> x(view.size());
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i + 1);
    device().upload(view.data, x.data(), x.size() * sizeof(float));
    device().synchronize();  // the seeds use another stream
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  ~OnDevice() { device().release(view.data); }
  float first() const {
    float x;
    device().download(&x, view.data, sizeof x);
    return x;
  }
  const View<float> view;
};

Command<float> command(const Kernel<float>& kernel) {
  Command<float> c;
  c.kernel = &kernel;
  return c;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_host_pointer_given_for_a_device_one_is_noticed) {
  if (skipped(true)) return;
  using K = detail::kernels<float>;
  const OnDevice a(3, 3), out(3, 3);
  float host[9] = {};
  Command<float> c = command(K::copy);
  c.in[0] = {host, 3, 3, 3};
  c.out = out.view;
  const std::string text = message_of([&] { device().run(c); });
  check_contains(text, "cuda: copy: stand-in: argument 2 of a kernel (0x");
  check_contains(text, "is not in device memory");
  c.kernel = &K::gemm;
  c.in[1] = a.view;
  check_contains(message_of([&] { device().run(c); }), "cuda: gemm: cuBLAS: stand-in: gemm: A (0x");
  check_contains(message_of([&] { device().upload(host, host, sizeof host); }),
                 "cuda: upload: stand-in: the destination of a copy (0x");
  check_contains(message_of([&] { device().download(out.view.data, out.view.data, sizeof host); }),
                 "cuda: download: stand-in: the destination of a copy is in device memory, not in the host's");
}

BOOST_AUTO_TEST_CASE(a_view_larger_than_its_memory_is_noticed) {
  if (skipped(true)) return;
  const OnDevice out(3, 3);
  Command<float> c = command(detail::kernels<float>::fill);
  c.out = out.view;
  c.out.cols = 4;
  check_contains(message_of([&] { device().run(c); }), "takes 48 bytes where 36 are left of an allocation of 36");
}

BOOST_AUTO_TEST_CASE(products_that_cublas_would_get_wrong_are_noticed) {
  if (skipped(true)) return;
  const OnDevice a(3, 3), b(3, 3), out(3, 3);
  Command<float> c = command(detail::kernels<float>::gemm);
  c.in[0] = a.view;
  c.in[1] = b.view;
  c.out = a.view;
  BOOST_TEST(message_of([&] { device().run(c); }) == "cuda: gemm: cuBLAS: stand-in: gemm: C overlaps A");
  c.out = b.view;
  BOOST_TEST(message_of([&] { device().run(c); }) == "cuda: gemm: cuBLAS: stand-in: gemm: C overlaps B");
  c.out = out.view;
  c.in[1].ld = 4;
  check_contains(message_of([&] { device().run(c); }), "gemm: B takes 44 bytes where 36 are left");
  BOOST_TEST(seeded("leading dimension", out.view.data) == "stand-in: gemm: A is 4x1 with leading dimension 3");
  BOOST_TEST(seeded("row-major", out.view.data) == "stand-in: gemm: B is 3x2 with leading dimension 2");
}

BOOST_AUTO_TEST_CASE(calls_that_cusolver_does_not_take_are_noticed) {
  if (skipped(true)) return;
  const OnDevice x(3, 3);
  BOOST_TEST(seeded("leading dimension of LU") == "stand-in: getrf: A is 4x4 with leading dimension 3");
  check_contains(seeded("pivots on the host"), "stand-in: getrf: the pivots (0x");
  check_contains(seeded("pivots on the host"), "is not in device memory");
  check_contains(seeded("no scratch memory"), "stand-in: getrf: the scratch memory takes 32 bytes where 4 are left");
  BOOST_TEST(seeded("little scratch memory") == "stand-in: potrf: the scratch memory has 12 elements, not 13");
  BOOST_TEST(seeded("SVD of a wide matrix") == "stand-in: gesvd: A has fewer rows than columns");
  BOOST_TEST(seeded("more columns of Q than rows") == "stand-in: orgqr: it needs rows >= columns >= reflectors");
  BOOST_TEST(seeded("substitution over its matrix", x.view.data) == "stand-in: trsm: B overlaps A");
  BOOST_TEST(seeded("factorisation while capturing", x.view.data) == "stand-in: cuSOLVER while a stream captures");
}

BOOST_AUTO_TEST_CASE(memory_given_back_is_not_used_and_not_given_back_twice) {
  if (skipped(true)) return;
  Command<float> c = command(detail::kernels<float>::fill);
  c.out = {static_cast<float*>(device().allocate(36)), 3, 3, 3};
  device().release(c.out.data);
  check_contains(message_of([&] { device().run(c); }), "is not in device memory");
  device().release(c.out.data);
  c.out.rows = 0;
  check_contains(message_of([&] { device().run(c); }), "which is no allocation");
}

BOOST_AUTO_TEST_CASE(host_code_cannot_read_device_memory) {
  if (skipped(true)) return;
  const OnDevice x(3, 3);
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGSEGV, SIG_DFL);
    const volatile float stolen = *x.view.data;
    _exit(stolen == 0 ? 0 : 1);
  }
  int status = 0;
  BOOST_REQUIRE(waitpid(child, &status, 0) == child);
  BOOST_TEST(WIFSIGNALED(status));
  BOOST_TEST(WTERMSIG(status) == SIGSEGV);
}

BOOST_AUTO_TEST_CASE(fresh_memory_is_nan) {
  if (skipped(true)) return;
  void* memory = device().allocate(80);
  std::vector<double> x(10);
  device().download(x.data(), memory, 80);
  for (const double v : x) BOOST_TEST(std::isnan(v));
  device().release(memory);

  const std::size_t large = std::size_t{20} << 20;  // of which the first 16 MB are
  memory = device().allocate(large);
  std::vector<float> y(large / sizeof(float));
  device().download(y.data(), memory, large);
  BOOST_TEST(std::isnan(y.front()));
  BOOST_TEST(std::isnan(y[(std::size_t{16} << 20) / sizeof(float) - 1]));
  device().release(memory);
}

BOOST_AUTO_TEST_CASE(wrong_kernels_are_noticed) {
  if (skipped(true)) return;
  const OnDevice x(4, 1);
  float* const p = x.view.data;
  check_contains(seeded("overrun", p, 4), "something wrote past the 16 bytes at 0x");
  BOOST_TEST(seeded("no fault", p) == "");
  BOOST_TEST(x.first() == 64 * 63 / 2);
  BOOST_TEST(seeded("shuffles", p) == "");
  BOOST_TEST(x.first() == 32 * 31 / 2);
  BOOST_TEST(seeded("sync not reached by all") ==
             "stand-in: 32 of the 64 threads of block (0, 0, 0) wait at a __syncthreads that the others never reach");
  BOOST_TEST(seeded("shuffle not reached by all", p) ==
             "stand-in: 31 of the 32 threads of block (0, 0, 0) wait at a shuffle that the others never reach");
  BOOST_TEST(seeded("shuffle beyond the warp", p) ==
             "stand-in: block (0, 0, 0) shuffles with lane 32 away: there are 32 in a warp");
  BOOST_TEST(seeded("shared overrun") == "stand-in: block (0, 0, 0) wrote past its 256 bytes of shared memory");
  check_contains(seeded("no threads", p), "stand-in: a launch of 0 blocks of 1 threads");
}

BOOST_AUTO_TEST_CASE(results_that_hang_on_the_order_of_threads_or_blocks_differ_between_the_orders) {
  if (skipped(true)) return;
  const OnDevice x(1, 1);
  for (const char* fault : {"missing sync", "order of blocks"}) {
    std::vector<float> results;
    for (const bool descending : {false, true}) {
      run_threads_descending(descending);
      BOOST_TEST(seeded(fault, x.view.data, 1) == "");
      results.push_back(x.first());
    }
    BOOST_TEST_CONTEXT(fault) BOOST_TEST(results[0] != results[1]);  // "missing sync" reads NaNs in ascending order
  }
  run_threads_descending(false);
}

// What was given to a stream has not been done before somebody waits.
BOOST_AUTO_TEST_CASE(a_missing_wait_shows) {
  if (skipped(true)) return;
  const OnDevice x(4, 1);
  BOOST_TEST(seeded("no wait", x.view.data) == "the copy has not arrived");
  BOOST_TEST(seeded("wait", x.view.data) == "");
}

BOOST_AUTO_TEST_CASE(what_a_capture_forbids_is_noticed) {
  if (skipped(true)) return;
  const OnDevice x(3, 3);
  float* const p = x.view.data;
  BOOST_TEST(seeded("captured", p) == "");
  BOOST_TEST(x.first() == 7);  // done when the graph was launched, not when it was captured
  BOOST_TEST(seeded("wait while capturing", p) == "stand-in: cudaStreamSynchronize while a stream captures");
  BOOST_TEST(seeded("allocation while capturing", p) == "stand-in: cudaMalloc while a stream captures");
  BOOST_TEST(seeded("free while capturing", p) == "stand-in: cudaFree while a stream captures");
  BOOST_TEST(seeded("product without workspace while capturing", p) ==
             "stand-in: gemm: cuBLAS would allocate a workspace while a stream captures");
  check_contains(seeded("graph of memory that is gone", p), "is not in device memory");
}

// A number that was given by value when the graph was captured stays what it was: tests that change a learning rate
// between replays see it (cuda_training_test does).
BOOST_AUTO_TEST_CASE(a_number_baked_into_a_graph_shows) {
  if (skipped(true)) return;
  const OnDevice x(1, 1);
  BOOST_TEST(seeded("baked number", x.view.data) == "");
  BOOST_TEST(x.first() == 1);
}

BOOST_AUTO_TEST_CASE(leaks_are_counted) {
  if (skipped(true)) return;
  device();
  const std::size_t before = allocations();
  void* leaked = device().allocate(8);
  BOOST_TEST(allocations() == before + 1);
  device().release(leaked);
  BOOST_TEST(allocations() == before);
}

BOOST_AUTO_TEST_CASE(an_allocation_can_be_made_to_fail) {
  if (skipped(true)) return;
  device();
  exported<void(long)>("cuda_stand_in_fail_allocation")(1);
  void* first = device().allocate(8);
  check_contains(message_of([] { device().allocate(8); }), "cuda: out of memory: 0.0 MB asked for");
  void* second = device().allocate(8);
  device().release(first);
  device().release(second);
}
