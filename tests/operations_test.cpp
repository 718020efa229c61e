// The generated suite: every listed operation x its samples x element type. An operation that is not listed does not
// link (see autodiff/operations.cpp), so none is left out.
#define BOOST_TEST_MODULE operations
#include <iostream>
#include <set>

#include <boost/test/unit_test.hpp>

#include <armagrad/autodiff/samples.hpp>

namespace ag = armagrad;

BOOST_AUTO_TEST_CASE(every_operation_passes_its_samples) {
  ag::OperationCheck all;
  std::set<std::string> names;
  for (const ag::ListedOperation& operation : ag::all_operations()) {
    const ag::OperationCheck r = ag::check_operation(operation);
    BOOST_CHECK_MESSAGE(r.ok, r.log);
    names.insert(operation.name);
    all.samples += r.samples;
    all.refusals += r.refusals;
    all.gradient_entries += r.gradient_entries;
    all.second_derivatives += r.second_derivatives;
    all.nonlinear_samples += r.nonlinear_samples;
    for (const int k : {0, 1}) all.worst_value[k] = std::max(all.worst_value[k], r.worst_value[k]);
    all.worst_gradient = std::max(all.worst_gradient, r.worst_gradient);
    all.worst_second_derivative = std::max(all.worst_second_derivative, r.worst_second_derivative);
    all.uncertainty = std::max(all.uncertainty, r.uncertainty);
  }
  std::cout << names.size() << " operations, " << all.samples << " samples (" << all.refusals
            << " that must be refused), 2 element types\n"
            << "largest deviation of a value: " << all.worst_value[0] << " in float, " << all.worst_value[1]
            << " in double\n"
            << "gradients: " << all.gradient_entries << " entries, largest error " << all.worst_gradient
            << ", of the differences themselves " << all.uncertainty << "\n"
            << "gradients of gradients: " << all.second_derivatives << " entries, largest error "
            << all.worst_second_derivative << "\n";
  BOOST_TEST(names.size() >= 60u);
  BOOST_TEST(all.samples >= 400u);
  BOOST_TEST(all.refusals >= 40u);
  BOOST_TEST(all.gradient_entries > 1000u);
  BOOST_TEST(all.nonlinear_samples > 60u);  // the check does see second derivatives
}
