// The generated suite on the CUDA device: every listed operation x its samples x element type, against the CPU.
#define BOOST_TEST_MODULE cuda_operations
#include <set>

#include <armagrad/autodiff/samples.hpp>

#include "cuda_device.hpp"

namespace ag = armagrad;

namespace armagrad::detail {
void list_arithmetic(OperationList&);
void list_elementwise(OperationList&);
void list_network(OperationList&);
void list_reductions(OperationList&);
void list_shapes(OperationList&);
}  // namespace armagrad::detail

// Values, gradients and gradients of gradients are the CPU's, replays the eager runs bit for bit, refusals in the same
// words. What the device does not have it refuses by name, and that is linear algebra alone.
BOOST_AUTO_TEST_CASE(every_operation_agrees_with_the_cpu_or_is_refused_by_name) {
  if (skipped()) return;
  const ag::Device cuda(device());
  ag::detail::OperationList list;
  for (const auto add : {ag::detail::list_arithmetic, ag::detail::list_elementwise, ag::detail::list_network,
                         ag::detail::list_reductions, ag::detail::list_shapes})
    add(list);
  std::set<std::string> must_be_there;
  for (const auto& operation : list) must_be_there.insert(operation.name);
  BOOST_TEST(must_be_there.size() >= 60u);
  must_be_there.erase("norm");  // a matrix's largest singular value needs linear algebra; other norms are there

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
    for (const std::string& name : absent) {
      std::cout << " " << name;
      BOOST_CHECK_MESSAGE(!must_be_there.contains(name), name << " is not on the device");
    }
    std::cout << "\n";
    BOOST_TEST(samples >= 400u);
  }
  run_threads_descending(false);
}
