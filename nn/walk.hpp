// For code that needs every member of a module and of the modules in it.
#pragma once

#include <cstdint>
#include <string>

#include <armagrad/nn/module.hpp>

namespace armagrad::nn::detail {

/// Calls back for every parameter, counter and module below a root, with paths: `root.visit(walk)`.
class Walk : public Visitor {
 public:
  virtual void at(const std::string&, Parameter<float>&) {}
  virtual void at(const std::string&, Parameter<double>&) {}
  virtual void at(const std::string&, std::uint64_t&) {}
  virtual void at(const std::string&, ModuleBase&) {}

  void parameter(const std::string& name, Parameter<float>& p) override { at(path_ + name, p); }
  void parameter(const std::string& name, Parameter<double>& p) override { at(path_ + name, p); }
  void state(const std::string& name, std::uint64_t& counter) override { at(path_ + name, counter); }
  void module(const std::string& name, ModuleBase& m) override {
    at(path_ + name, m);
    const std::string before = path_;
    path_ += name + ".";
    m.visit(*this);
    path_ = before;
  }

 private:
  std::string path_;
};

}  // namespace armagrad::nn::detail
