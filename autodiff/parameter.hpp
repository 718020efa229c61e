#pragma once

#include <memory>
#include <string>
#include <unordered_set>

#include <armagrad/autodiff/armadillo.hpp>
#include <armagrad/autodiff/device/device.hpp>
#include <armagrad/autodiff/shape.hpp>

namespace armagrad {

namespace detail {

/// The set to which this thread's new storages add their address until they die: how a module's unnamed parameters
/// are found. A plain pointer, because parameters may outlive a thread's other variables.
inline thread_local std::unordered_set<const void*>* parameter_census = nullptr;

struct SgdScalars;

/// An optimizer's wish to be served within backward: a product or sum that is all of a parameter's gradient may write
/// the parameter (or the velocity) itself, and no gradient is kept then.
template <class eT>
struct ParameterUpdate {
  const SgdScalars* scalars = nullptr;
  eT* velocity = nullptr;  // null: the parameter itself is written
  bool started = false;    // the velocity has a value
  bool done = false;       // set by backward

  /// Makes the product or sum that is the parameter's gradient this step.
  void put_into(Command<eT>& c) const {
    c.flags |= velocity == nullptr ? step_parameter : step_velocity;
    c.object = scalars;
  }
};

/// What a parameter, the leaves that alias it and the optimizers that update it share.
template <class eT>
struct ParameterStorage {
  ParameterStorage(Device device, Shape shape);
  ~ParameterStorage();
  ParameterStorage(const ParameterStorage&) = delete;
  ParameterStorage& operator=(const ParameterStorage&) = delete;

  Device device;
  Shape shape;
  eT* value;
  eT* gradient = nullptr;     // made by the first backward that reaches it
  bool has_gradient = false;  // false: `gradient` is to be overwritten, not added to
  bool trainable = true;
  bool vector = false;                    // written to model files with one dimension
  ParameterUpdate<eT>* update = nullptr;  // set while an optimizer runs backward
  std::uint32_t version = 0;              // counts the changes of `value`
  std::string name = "parameter";         // its path within the module it was last collected from
};

}  // namespace detail

/// A matrix that training changes: a value and its gradient, outside of any tape. Copying clones the value (the copy
/// trains by itself), moving transfers it. A tape's leaf aliases the value without copying it.
template <class eT>
class Parameter {
 public:
  using elem_type = eT;
  using Storage = detail::ParameterStorage<eT>;

  /// rows x cols zeros on the CPU.
  Parameter(arma::uword rows, arma::uword cols);
  explicit Parameter(const arma::Mat<eT>& value);
  /// rows x 1 zeros that model files hold with one dimension, as PyTorch holds a bias.
  static Parameter vector(arma::uword rows);
  Parameter(const Parameter& other);
  Parameter(Parameter&&) noexcept = default;
  Parameter& operator=(const Parameter& other);
  Parameter& operator=(Parameter&&) noexcept = default;
  ~Parameter() = default;

  arma::uword n_rows() const { return storage().shape.rows; }
  arma::uword n_cols() const { return storage().shape.cols; }
  arma::uword n_elem() const { return storage().shape.size(); }
  bool is_vector() const { return storage().vector; }

  /// A copy of the value.
  arma::Mat<eT> value() const;
  /// Throws ShapeError unless `value` has the parameter's shape.
  void set_value(const arma::Mat<eT>& value);
  /// A copy of the gradient: zeros where no backward pass has reached the parameter since zero_grad.
  arma::Mat<eT> grad() const;
  void zero_grad() { storage().has_gradient = false; }

  /// false: backward computes no gradient for it (frozen).
  void set_trainable(bool trainable) { storage().trainable = trainable; }
  bool trainable() const { return storage().trainable; }

  Device device() const { return storage().device; }
  /// Moves value and gradient to `device`; optimizers made before go on with it.
  void to(Device device);

  /// The shared part, for code that outlives or updates the parameter (optimizers).
  const std::shared_ptr<Storage>& shared() const { return storage(), storage_; }

 private:
  Storage& storage() const;
  std::shared_ptr<Storage> storage_;
};

}  // namespace armagrad
