#include "formats/json/json.h"

#include <sys/mman.h>

#include <charconv>
#include <cmath>
#include <limits>
#include <new>
#include <vector>

template class nlohmann::basic_json<std::map, std::vector, std::string, bool, std::int64_t, std::uint64_t, double,
                                    aoq::JsonAllocator>;

namespace aoq {
namespace {

// Before what allocate_for_json_teardown returns.
struct alignas(std::max_align_t) Origin {
  std::size_t mapped = 0;  // bytes of pages; 0: from the heap
};

// Builds the value while it refuses what a strict reader must: deep nesting and repeated keys.
class Builder final : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(int depth_limit) : depth_limit_(depth_limit) {}

  bool null() override { return add(nullptr); }
  bool boolean(bool v) override { return add(v); }
  bool number_integer(number_integer_t v) override { return add(v); }
  bool number_unsigned(number_unsigned_t v) override { return add(v); }
  bool number_float(number_float_t v, const string_t&) override { return add(v); }
  bool string(string_t& v) override { return add(std::move(v)); }
  bool binary(binary_t&) override { return fail(error(Code::invalid_data, "json: binary value")); }
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    if (stack_.back()->contains(name)) return fail(error(Code::invalid_data, "json: key \"{}\" appears twice", name));
    key_ = std::move(name);
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& e) override {
    return fail(error(Code::invalid_data, "json: at byte {}: {}", position, e.what()));
  }

  Json& root() { return root_; }
  const Status& status() const { return status_; }

 private:
  bool fail(Status status) {
    status_ = std::move(status);
    return false;
  }

  template <class T>
  bool add(T&& value) {
    place(Json(std::forward<T>(value)));
    return true;
  }

  Json* place(Json value) {
    if (stack_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *stack_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    return &(parent[key_] = std::move(value));
  }

  bool open(Json value) {
    if (static_cast<int>(stack_.size()) >= depth_limit_) {
      return fail(error(Code::resource_limit, "json: nested deeper than {}", depth_limit_));
    }
    stack_.push_back(place(std::move(value)));
    return true;
  }

  bool close() {
    stack_.pop_back();
    return true;
  }

  int depth_limit_;
  Json root_;
  // The open containers, outermost first. Only the last one grows, so the others stay where they are.
  std::vector<Json*> stack_;
  std::string key_;
  Status status_;
};

Status missing(std::string_view key, std::string_view expected) {
  return error(Code::invalid_data, "json: \"{}\" is missing or no {}", key, expected);
}

}  // namespace

void* allocate_for_json_teardown(std::size_t bytes) {
  const std::size_t size = bytes + sizeof(Origin);
  if (void* p = ::operator new(size, std::nothrow)) return new (p) Origin + 1;
  void* pages = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) throw std::bad_alloc();
  return new (pages) Origin{size} + 1;
}

void free_of_json_teardown(void* p) {
  Origin* origin = static_cast<Origin*>(p) - 1;
  if (origin->mapped == 0) {
    ::operator delete(origin);
  } else {
    ::munmap(origin, origin->mapped);
  }
}

Result<Json> parse_json(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.bytes) {
    return error(Code::resource_limit, "json: {} bytes, limit {}", text.size(), limits.bytes);
  }
  try {
    Builder builder(limits.depth);
    const bool parsed = Json::sax_parse(text.begin(), text.end(), &builder);
    if (!builder.status().ok()) return builder.status();
    if (!parsed) return error(Code::invalid_data, "json: not a JSON document");
    return std::move(builder.root());
  } catch (const std::bad_alloc&) {
    return error(Code::resource_limit, "json: no memory for {} bytes of text", text.size());
  }
}

Result<Json> parse_json(std::span<const std::byte> bytes, const JsonLimits& limits) {
  return parse_json(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()), limits);
}

std::string dump_json(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string dump_json_indented(const Json& value) {
  return value.dump(1, ' ', false, Json::error_handler_t::replace);
}

const Json* json_find(const Json& object, std::string_view key) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(key);
  return it == object.end() ? nullptr : &*it;
}

Result<std::string> json_string(const Json& object, std::string_view key) {
  const Json* v = json_find(object, key);
  if (v == nullptr || !v->is_string()) return missing(key, "string");
  return v->get<std::string>();
}

Result<std::int64_t> json_integer(const Json& object, std::string_view key) {
  const Json* v = json_find(object, key);
  const bool is_too_large =
      v != nullptr && v->is_number_unsigned() &&
      v->get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (v == nullptr || !v->is_number_integer() || is_too_large) return missing(key, "integer");
  return v->get<std::int64_t>();
}

Result<double> json_number(const Json& object, std::string_view key) {
  const Json* v = json_find(object, key);
  if (v == nullptr || !v->is_number()) return missing(key, "number");
  return v->get<double>();
}

Result<bool> json_bool(const Json& object, std::string_view key) {
  const Json* v = json_find(object, key);
  if (v == nullptr || !v->is_boolean()) return missing(key, "boolean");
  return v->get<bool>();
}

Result<double> parse_hex_float(std::string_view text) {
  if (text == "nan") return std::numeric_limits<double>::quiet_NaN();
  if (text == "inf") return std::numeric_limits<double>::infinity();
  if (text == "-inf") return -std::numeric_limits<double>::infinity();
  std::string_view digits = text;
  const bool is_negative = digits.starts_with('-');
  if (is_negative) digits.remove_prefix(1);
  if (!digits.starts_with("0x")) return error(Code::invalid_data, "\"{}\" is no hexadecimal float", text);
  digits.remove_prefix(2);
  double value = 0;
  const char* end = digits.data() + digits.size();
  const std::from_chars_result r = std::from_chars(digits.data(), end, value, std::chars_format::hex);
  const bool is_signed_again = digits.starts_with('-') || !(std::isfinite(value));
  if (r.ec != std::errc() || r.ptr != end || is_signed_again) {
    return error(Code::invalid_data, "\"{}\" is no hexadecimal float", text);
  }
  return is_negative ? -value : value;
}

}  // namespace aoq
