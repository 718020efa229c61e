// Where every file of operations is named. A new file of operations adds its line in both places.
#include <armagrad/autodiff/samples.hpp>

namespace armagrad {

namespace detail {
void list_arithmetic(OperationList&);
void list_checkpoint(OperationList&);
void list_elementwise(OperationList&);
void list_linear_algebra(OperationList&);
void list_network(OperationList&);
void list_reductions(OperationList&);
void list_shapes(OperationList&);
}  // namespace detail

std::vector<ListedOperation> all_operations() {
  detail::OperationList all;
  detail::list_arithmetic(all);
  detail::list_elementwise(all);
  detail::list_reductions(all);
  detail::list_shapes(all);
  detail::list_network(all);
  detail::list_linear_algebra(all);
  detail::list_checkpoint(all);
  return all;
}

}  // namespace armagrad
