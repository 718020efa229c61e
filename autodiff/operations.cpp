// Where every file of operations is named. A new file of operations adds its line in both places.
#include <armagrad/autodiff/samples.hpp>

namespace armagrad {

namespace detail {
void list_arithmetic(OperationList&);
void list_batches(OperationList&);
void list_checkpoint(OperationList&);
void list_elementwise(OperationList&);
void list_factorisations(OperationList&);
void list_matrix_functions(OperationList&);
void list_network(OperationList&);
void list_reductions(OperationList&);
void list_shapes(OperationList&);
void list_solves(OperationList&);
void list_sparse(OperationList&);
void list_spectral(OperationList&);
void list_vectors(OperationList&);
}  // namespace detail

std::vector<ListedOperation> all_operations() {
  detail::OperationList all;
  detail::list_arithmetic(all);
  detail::list_elementwise(all);
  detail::list_reductions(all);
  detail::list_shapes(all);
  detail::list_network(all);
  detail::list_batches(all);
  detail::list_solves(all);
  detail::list_factorisations(all);
  detail::list_spectral(all);
  detail::list_matrix_functions(all);
  detail::list_vectors(all);
  detail::list_sparse(all);
  detail::list_checkpoint(all);
  return all;
}

}  // namespace armagrad
