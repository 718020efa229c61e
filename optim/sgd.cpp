#include <cmath>
#include <deque>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>

#include <armagrad/autodiff/device/capture.hpp>
#include <armagrad/autodiff/device/kernels.hpp>
#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/rows.hpp>
#include <armagrad/optim/sgd.hpp>

namespace armagrad::optim {

namespace kernel = armagrad::detail;

// Everything a captured command points to lives here, at a fixed address as long as the optimizer or a replay lives.
template <class eT>
struct Sgd<eT>::State {
  using Storage = armagrad::detail::ParameterStorage<eT>;
  struct Buffer {
    std::shared_ptr<eT> data;
    Backend* home = nullptr;

    /// Its memory on `backend`, with the content it had elsewhere.
    eT* on(Backend& backend, std::size_t n) {
      if (home == &backend) return data.get();
      const std::size_t bytes = n * sizeof(eT);
      std::shared_ptr<eT> here;
      try {
        here.reset(static_cast<eT*>(backend.allocate(bytes)), [&backend](eT* p) { backend.release(p); });
      } catch (const DeviceError& e) {
        armagrad::detail::tell_for("Sgd", e);
      }
      if (data != nullptr) {
        std::vector<eT> content(n);
        home->download(content.data(), data.get(), bytes);
        backend.upload(here.get(), content.data(), bytes);
      }
      data = here;
      home = &backend;
      return data.get();
    }
  };
  struct Slot {
    std::shared_ptr<Storage> parameter;
    const kernel::SgdScalars* scalars;
    Buffer velocity;
    bool moving = false;  // the velocity has a value
    armagrad::detail::ParameterUpdate<eT> update;
  };
  std::deque<kernel::SgdScalars> scalars;
  std::vector<Slot> slots;
  Buffer squares;  // 1x1: the sum of the squared gradients
  double clip_limit = 0;
  armagrad::detail::ScalarAttributes clip_range;

  /// Where commands read `value`. A capture keeps a number of its own, which later calls do not change.
  template <class T>
  static const T* readable(T& eager, const T& value) {
    auto* list = armagrad::detail::capturing<eT>;
    if (list == nullptr) return &(eager = value);
    const auto own = std::make_shared<const T>(value);
    list->after.push_back([own] {});
    return own.get();
  }

  static View<eT> view(eT* data, Shape s) { return {data, s.rows, s.cols, s.rows}; }

  void add(const Group& group) {
    const SgdOptions& o = group.options;
    const auto require = [](bool holds, const std::string& text) {
      if (!holds) throw OptionError("Sgd: " + text);
    };
    require(o.lr >= 0 && std::isfinite(o.lr), fmt::format("lr is {}; it must be a number that is not negative", o.lr));
    require(o.momentum >= 0 && o.momentum < 1,
            fmt::format("momentum is {}; it must be at least 0 and below 1", o.momentum));
    require(o.weight_decay >= 0 && std::isfinite(o.weight_decay),
            fmt::format("weight_decay is {}; it must be a number that is not negative", o.weight_decay));
    require(std::isfinite(o.dampening), fmt::format("dampening is {}; it must be a number", o.dampening));
    require(!o.nesterov || (o.momentum > 0 && o.dampening == 0), "nesterov needs a momentum above 0 and no dampening");
    require(!group.parameters.empty(), "there are no parameters; does ARMAGRAD_MODULE name the model's members?");
    scalars.push_back({o.lr, o.momentum, o.dampening, o.weight_decay, o.nesterov, o.maximize});
    std::unordered_set<const void*> seen;
    for (const Slot& s : slots) seen.insert(s.parameter.get());
    for (const auto& p : group.parameters) {
      require(seen.insert(p.get()).second,
              fmt::format("{} is given twice; each parameter belongs to one group", p->name));
      slots.push_back({p, &scalars.back(), {}, false, {}});
    }
  }

  kernel::SgdScalars& scalars_of(std::size_t group) {
    if (group >= scalars.size())
      throw OptionError(fmt::format("Sgd: there is no group {}; there are {}", group, scalars.size()));
    return scalars[group];
  }

  template <class Do>
  void for_each_reached(Do what) {
    for (Slot& s : slots)
      if (s.parameter->has_gradient) what(s);
  }
};

template <class eT>
Sgd<eT>::Sgd(Parameters parameters, SgdOptions options) : Sgd(std::vector<Group>{{std::move(parameters), options}}) {}

template <class eT>
Sgd<eT>::Sgd(std::vector<Group> groups) : state_(std::make_shared<State>()) {
  if (groups.empty()) throw OptionError("Sgd: there are no groups of parameters");
  for (const Group& g : groups) state_->add(g);
}
template <class eT>
Sgd<eT>::Sgd(Sgd&&) noexcept = default;
template <class eT>
Sgd<eT>& Sgd<eT>::operator=(Sgd&&) noexcept = default;
template <class eT>
Sgd<eT>::~Sgd() = default;

template <class eT>
typename Sgd<eT>::State& Sgd<eT>::state() const {
  if (state_ == nullptr) throw StateError("Sgd: it was moved from; use the one it was moved to");
  return *state_;
}

template <class eT>
void Sgd<eT>::zero_grad() {
  for (auto& s : state().slots) s.parameter->has_gradient = false;
}

template <class eT>
void Sgd<eT>::minimize(Var<eT> loss) {
  zero_grad();
  State& st = state();
  {
    // Backward serves these wishes where it can.
    struct Wishes {
      explicit Wishes(State& all) : state(all) {
        for (auto& s : state.slots) {
          const kernel::SgdScalars& o = *s.scalars;
          if (o.weight_decay != 0 || o.dampening != 0 || o.nesterov) continue;
          auto& p = *s.parameter;
          s.update = {&o, o.momentum > 0 ? s.velocity.on(p.device.backend(), p.shape.size()) : nullptr, s.moving,
                      false};
          p.update = &s.update;
        }
      }
      Wishes(const Wishes&) = delete;
      Wishes& operator=(const Wishes&) = delete;
      ~Wishes() {
        for (auto& s : state.slots) {
          s.parameter->update = nullptr;
          if (!finished && std::exchange(s.update.done, false)) ++s.parameter->version;  // `step` will not be reached
        }
      }
      State& state;
      bool finished = false;
    } wishes(st);
    loss.backward();
    wishes.finished = true;
  }
  step();
}

template <class eT>
void Sgd<eT>::step() {
  auto* list = armagrad::detail::capturing<eT>;
  for (auto& s : state().slots) {
    auto& p = *s.parameter;
    const bool stepped = std::exchange(s.update.done, false);
    if (!stepped && !p.has_gradient) continue;
    const bool momentum = s.scalars->momentum > 0;
    if (!stepped || momentum) {
      Backend& backend = p.device.backend();
      Command<eT> c;
      c.kernel = &kernel::kernels<eT>::sgd;
      c.out = State::view(p.value, p.shape);
      if (stepped)
        c.flags = velocity_stepped;
      else
        c.in[0] = State::view(p.gradient, p.shape);
      if (momentum) c.more_out[0] = State::view(s.velocity.on(backend, p.shape.size()), p.shape);
      c.beta = s.moving ? eT(1) : eT(0);
      c.object = s.scalars;
      armagrad::detail::run(backend, c);
      if (list != nullptr) list->commands.back().beta = 1;  // a replay goes on with the velocity
      s.moving = momentum;
    }
    ++p.version;
    if (list != nullptr) list->after.push_back([keep = state_, &p] { ++p.version; });
  }
}

// Captured commands point into the state; the replay shares it.
template <class eT>
void Sgd<eT>::keep_for_replay() const {
  if (auto* list = armagrad::detail::capturing<eT>) list->after.push_back([keep = state_] {});
}

template <class eT>
std::size_t Sgd<eT>::groups() const {
  return state().scalars.size();
}
template <class eT>
double Sgd<eT>::lr(std::size_t group) const {
  return state().scalars_of(group).lr;
}
template <class eT>
void Sgd<eT>::set_lr(double lr, std::size_t group) {
  if (!(lr >= 0 && std::isfinite(lr)))
    throw OptionError(fmt::format("Sgd: lr is {}; it must be a number that is not negative", lr));
  state().scalars_of(group).lr = lr;
}

template <class eT>
double Sgd<eT>::clip_grad_norm(double limit) {
  if (!(limit > 0)) throw OptionError(fmt::format("clip_grad_norm: the limit is {}; it must be positive", limit));
  State& st = state();
  const double* const readable = State::readable(st.clip_limit, limit);
  const auto& first = *st.slots.front().parameter;
  const Device device = first.device;
  const View<eT> squares{st.squares.on(device.backend(), 1), 1, 1, 1};
  Command<eT> clear;
  clear.kernel = &kernel::kernels<eT>::fill;
  clear.out = squares;
  clear.alpha = 0;
  armagrad::detail::run(device.backend(), clear);
  st.for_each_reached([&](typename State::Slot& s) {
    if (!(s.parameter->device == device))
      throw DeviceError(
          fmt::format("clip_grad_norm: {} is on {}, {} on {}; move the model to one device with to(device)", first.name,
                      device.name(), s.parameter->name, s.parameter->device.name()));
    Command<eT> c;
    c.kernel = &kernel::kernels<eT>::dot;
    c.in[0] = c.in[1] = State::view(s.parameter->gradient, s.parameter->shape);
    c.out = squares;
    c.beta = 1;
    armagrad::detail::run(device.backend(), c);
  });
  st.for_each_reached([&](typename State::Slot& s) {
    Command<eT> c;
    c.kernel = &kernel::kernels<eT>::clip;
    c.in[0] = squares;
    c.out = State::view(s.parameter->gradient, s.parameter->shape);
    c.object = readable;
    armagrad::detail::run(device.backend(), c);
  });
  keep_for_replay();
  eT total;
  device.backend().download(&total, squares.data, sizeof total);
  return std::sqrt(static_cast<double>(total));
}

template <class eT>
void Sgd<eT>::clip_grad_value(double limit) {
  if (!(limit > 0)) throw OptionError(fmt::format("clip_grad_value: the limit is {}; it must be positive", limit));
  State& st = state();
  const auto* const readable = State::readable(st.clip_range, {-limit, limit});
  st.for_each_reached([&](typename State::Slot& s) {
    Command<eT> c;
    c.kernel = &kernel::RowKernels<math::clamp_row, eT>::value;
    c.out = State::view(s.parameter->gradient, s.parameter->shape);
    c.in[0] = c.out;
    c.attributes = readable;
    armagrad::detail::run(s.parameter->device.backend(), c);
  });
  keep_for_replay();
}

template class Sgd<float>;
template class Sgd<double>;

}  // namespace armagrad::optim
