// The generated suite on the CUDA device: every listed operation x its samples x element type, against the CPU.
#define BOOST_TEST_MODULE cuda_operations
#include <set>

#include <armagrad/autodiff/samples.hpp>

#include "cuda_device.hpp"

namespace ag = armagrad;

// Values, gradients and gradients of gradients are the CPU's, replays the eager runs bit for bit, refusals in the same
// words. What the device does not have it refuses by name.
BOOST_AUTO_TEST_CASE(every_operation_agrees_with_the_cpu_or_is_refused_by_name) {
  if (skipped()) return;
  const ag::Device cuda(device());
  const std::set<std::string> not_there{"eig_gen",       "expmat",   "expmat_sym",   "logmat_sympd",
                                        "sqrtmat_sympd", "spectral", "sparse matmul"};
  for (const bool descending : {false, true}) {
    run_threads_descending(descending);
    std::size_t samples = 0;
    double worst = 0;
    std::set<std::string> absent;
    for (const ag::ListedOperation& operation : ag::all_operations()) {
      const ag::OperationCheck r = ag::check_operation(operation, 20240229, cuda);
      BOOST_CHECK_MESSAGE(r.ok, r.log);
      if (r.without_kernel > 0) absent.insert(operation.name);
      samples += r.samples;
      worst = std::max(worst, r.worst_between_devices);
    }
    std::cout << ag::all_operations().size() << " operations, " << samples << " samples, 2 element types, threads "
              << (descending ? "descending" : "ascending") << "\nlargest deviation from the CPU: " << worst
              << " epsilons\nnot on the device:";
    for (const std::string& name : absent) std::cout << " " << name;
    std::cout << "\n";
    BOOST_TEST(absent == not_there, boost::test_tools::per_element());
    BOOST_TEST(samples >= 400u);
  }
  run_threads_descending(false);
}
