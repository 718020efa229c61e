#include <utility>

#include <fmt/format.h>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/parameter.hpp>

namespace armagrad {

namespace detail {

template <class eT>
ParameterStorage<eT>::ParameterStorage(Device d, Shape s)
    : device(d), shape(s), value(static_cast<eT*>(d.backend().allocate(s.size() * sizeof(eT)))) {
  if (parameter_census != nullptr) parameter_census->insert(this);
}

template <class eT>
ParameterStorage<eT>::~ParameterStorage() {
  if (parameter_census != nullptr) parameter_census->erase(this);
  device.backend().release(value);
  if (gradient != nullptr) device.backend().release(gradient);
}

template struct ParameterStorage<float>;
template struct ParameterStorage<double>;

}  // namespace detail

template <class eT>
Parameter<eT>::Parameter(arma::uword rows, arma::uword cols)
    : Parameter(arma::Mat<eT>(rows, cols, arma::fill::zeros)) {}

template <class eT>
Parameter<eT>::Parameter(const arma::Mat<eT>& value)
    : storage_(std::make_shared<Storage>(
          Device::cpu(), Shape{static_cast<std::uint32_t>(value.n_rows), static_cast<std::uint32_t>(value.n_cols)})) {
  storage_->device.backend().upload(storage_->value, value.memptr(), value.n_elem * sizeof(eT));
}

template <class eT>
Parameter<eT> Parameter<eT>::vector(arma::uword rows) {
  Parameter out(rows, 1);
  out.storage().vector = true;
  return out;
}

template <class eT>
Parameter<eT>::Parameter(const Parameter& other) : Parameter(other.value()) {
  storage_->trainable = other.trainable();
  storage_->vector = other.is_vector();
  storage_->name = other.storage().name;
  if (!(other.device() == Device::cpu())) to(other.device());
}

template <class eT>
Parameter<eT>& Parameter<eT>::operator=(const Parameter& other) {
  if (this == &other) return *this;
  if (storage_ != nullptr && storage_->shape == other.storage().shape) {
    set_value(other.value());  // in place: optimizers go on with this parameter
    set_trainable(other.trainable());
    return *this;
  }
  return *this = Parameter(other);
}

template <class eT>
typename Parameter<eT>::Storage& Parameter<eT>::storage() const {
  if (storage_ == nullptr) throw StateError("parameter: it was moved from; use the one it was moved to");
  return *storage_;
}

template <class eT>
arma::Mat<eT> Parameter<eT>::value() const {
  arma::Mat<eT> out(n_rows(), n_cols(), arma::fill::none);
  device().backend().download(out.memptr(), storage().value, out.n_elem * sizeof(eT));
  return out;
}

template <class eT>
void Parameter<eT>::set_value(const arma::Mat<eT>& value) {
  Storage& s = storage();
  if (value.n_rows != s.shape.rows || value.n_cols != s.shape.cols)
    throw ShapeError(fmt::format("set_value: {} is {}, the new value is {}x{}; both must be equal", s.name,
                                 to_string(s.shape), value.n_rows, value.n_cols));
  s.device.backend().upload(s.value, value.memptr(), value.n_elem * sizeof(eT));
  ++s.version;
}

template <class eT>
arma::Mat<eT> Parameter<eT>::grad() const {
  arma::Mat<eT> out(n_rows(), n_cols(), arma::fill::zeros);
  if (storage().has_gradient) device().backend().download(out.memptr(), storage().gradient, out.n_elem * sizeof(eT));
  return out;
}

template <class eT>
void Parameter<eT>::to(Device device) {
  Storage& s = storage();
  if (s.device == device) return;
  const std::size_t bytes = s.shape.size() * sizeof(eT);
  const arma::Mat<eT> host = value(), host_gradient = grad();
  eT* moved = nullptr;
  eT* moved_gradient = nullptr;
  try {
    moved = static_cast<eT*>(device.backend().allocate(bytes));
    if (s.has_gradient) moved_gradient = static_cast<eT*>(device.backend().allocate(bytes));
  } catch (const DeviceError& e) {
    if (moved != nullptr) device.backend().release(moved);
    detail::tell_for(s.name, e);
  }
  device.backend().upload(moved, host.memptr(), bytes);
  s.device.backend().release(std::exchange(s.value, moved));
  if (s.gradient != nullptr) {
    s.device.backend().release(std::exchange(s.gradient, moved_gradient));
    if (s.has_gradient) device.backend().upload(s.gradient, host_gradient.memptr(), bytes);
  }
  s.device = device;
  ++s.version;
}

template class Parameter<float>;
template class Parameter<double>;

}  // namespace armagrad
