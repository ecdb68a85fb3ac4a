// Attributes: the compile-time parameters of a node, by name.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "ir/dim.h"
#include "ir/dtype.h"
#include "ir/tensor.h"

namespace aoq {

using Attribute = std::variant<bool, std::int64_t, double, std::string, DType, std::vector<std::int64_t>,
                               std::vector<double>, std::vector<std::string>, std::vector<Dim>, Tensor>;

// The alternatives of Attribute, in its order.
enum class AttributeKind : std::uint8_t {
  boolean,
  integer,
  real,
  string,
  dtype,
  integers,
  reals,
  strings,
  dims,
  tensor
};

inline AttributeKind kind_of(const Attribute& a) {
  return static_cast<AttributeKind>(a.index());
}
const char* attribute_kind_name(AttributeKind kind);

// A small map, sorted by name.
class Attributes {
 public:
  Attributes() = default;
  Attributes(std::initializer_list<std::pair<std::string, Attribute>> entries);

  const Attribute* find(std::string_view name) const;
  bool has(std::string_view name) const { return find(name) != nullptr; }
  void set(std::string_view name, Attribute value);
  void erase(std::string_view name);

  // The value of an attribute that the op table guarantees; another kind or a missing one is a bug of ours.
  template <typename T>
  const T& get(std::string_view name) const {
    const Attribute* a = find(name);
    AOQ_CHECK(a != nullptr && std::holds_alternative<T>(*a));
    return std::get<T>(*a);
  }
  bool boolean(std::string_view name) const { return get<bool>(name); }
  std::int64_t integer(std::string_view name) const { return get<std::int64_t>(name); }
  double real(std::string_view name) const { return get<double>(name); }
  const std::string& string(std::string_view name) const { return get<std::string>(name); }
  DType dtype(std::string_view name) const { return get<DType>(name); }
  const std::vector<std::int64_t>& integers(std::string_view name) const {
    return get<std::vector<std::int64_t>>(name);
  }
  const std::vector<Dim>& dims(std::string_view name) const { return get<std::vector<Dim>>(name); }
  const Tensor& tensor(std::string_view name) const { return get<Tensor>(name); }

  auto begin() const { return entries_.begin(); }
  auto end() const { return entries_.end(); }
  std::size_t size() const { return entries_.size(); }

 private:
  std::vector<std::pair<std::string, Attribute>> entries_;
};

// Equality of values; tensors compare by dtype, shape and bytes, reals by bits.
bool equal(const Attribute& a, const Attribute& b);

}  // namespace aoq
