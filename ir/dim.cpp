#include "ir/dim.h"

#include <algorithm>
#include <charconv>

namespace aoq {

namespace {

enum Kind { kSymbol, kFloorDiv, kCeilDiv, kMin, kMax };
constexpr const char* kKindNames[] = {"", "floordiv", "ceildiv", "min", "max"};
constexpr int kMaxNesting = 64;
constexpr std::size_t kMaxTerms = 1024;  // of a product

std::int64_t floor_div_value(std::int64_t a, std::int64_t b) {
  std::int64_t q = a / b;
  return (a % b != 0 && ((a < 0) != (b < 0))) ? q - 1 : q;
}

Result<std::int64_t> apply(int kind, std::int64_t a, std::int64_t b) {
  if (kind == kMin) return std::min(a, b);
  if (kind == kMax) return std::max(a, b);
  if (b == 0) return error(Code::invalid_model, "dimension divides by zero");
  if (b == -1) return a == INT64_MIN ? Result<std::int64_t>(error(Code::invalid_model, "dimension overflows")) : -a;
  std::int64_t q = floor_div_value(a, b);
  return kind == kFloorDiv || a % b == 0 ? q : q + 1;
}

}  // namespace

struct Dim::Atom {
  int kind = kSymbol;
  std::string text;  // the symbol, or the printed function: the identity of the atom
  Dim a, b;
};

struct Dim::Term {
  std::int64_t coefficient = 0;
  // Sorted by text. Shared with every expression that uses the same atom; immutable.
  std::vector<std::shared_ptr<const Atom>> atoms;

  std::string key() const {
    std::string k;
    for (const auto& atom : atoms) {
      if (!k.empty()) k += "*";
      k += atom->text;
    }
    return k;
  }
};

std::vector<Dim::Term> Dim::terms() const {
  if (terms_) return *terms_;
  if (constant_ == 0) return {};
  return {Term{constant_, {}}};
}

Dim Dim::from_terms(std::vector<Term> terms) {
  // Products first, in the order of their text; the constant last.
  std::map<std::string, Term> merged;
  for (Term& t : terms) {
    auto [it, inserted] = merged.try_emplace(t.key(), t);
    if (!inserted && __builtin_add_overflow(it->second.coefficient, t.coefficient, &it->second.coefficient)) {
      it->second.coefficient = INT64_MAX;  // refused by every consumer: larger than any legal dimension
    }
  }
  std::vector<Term> kept;
  Term constant;
  for (auto& [key, t] : merged) {
    if (t.coefficient == 0) continue;
    if (key.empty()) {
      constant = t;
    } else {
      kept.push_back(std::move(t));
    }
  }
  if (kept.empty()) return Dim(constant.coefficient);
  if (constant.coefficient != 0) kept.push_back(constant);
  Dim d;
  d.terms_ = std::make_shared<const std::vector<Term>>(std::move(kept));
  return d;
}

Dim Dim::symbol(std::string_view name) {
  auto atom = std::make_shared<const Atom>(Atom{kSymbol, std::string(name), {}, {}});
  return from_terms({Term{1, {std::move(atom)}}});
}

std::int64_t Dim::constant() const {
  AOQ_CHECK(is_constant());
  return constant_;
}

bool Dim::is_symbol() const {
  return terms_ && terms_->size() == 1 && (*terms_)[0].coefficient == 1 && (*terms_)[0].atoms.size() == 1 &&
         (*terms_)[0].atoms[0]->kind == kSymbol;
}

Result<std::int64_t> Dim::evaluate(const SymbolValues& values) const {
  if (!terms_) return constant_;
  std::int64_t sum = 0;
  for (const Term& t : *terms_) {
    std::int64_t p = t.coefficient;
    for (const auto& atom : t.atoms) {
      std::int64_t v = 0;
      if (atom->kind == kSymbol) {
        auto it = values.find(atom->text);
        if (it == values.end()) return error(Code::invalid_data, "dimension {} has no value", atom->text);
        v = it->second;
      } else {
        AOQ_ASSIGN(std::int64_t a, atom->a.evaluate(values));
        AOQ_ASSIGN(std::int64_t b, atom->b.evaluate(values));
        AOQ_ASSIGN(v, apply(atom->kind, a, b));
      }
      if (__builtin_mul_overflow(p, v, &p)) return error(Code::invalid_data, "dimension {} overflows", to_string());
    }
    if (__builtin_add_overflow(sum, p, &sum)) return error(Code::invalid_data, "dimension {} overflows", to_string());
  }
  return sum;
}

Dim Dim::substitute(const SymbolValues& values) const {
  if (!terms_) return *this;
  Dim sum;
  for (const Term& t : *terms_) {
    Dim p(t.coefficient);
    for (const auto& atom : t.atoms) {
      if (atom->kind == kSymbol) {
        auto it = values.find(atom->text);
        p = p * (it == values.end() ? symbol(atom->text) : Dim(it->second));
      } else {
        p = p * function_of(atom->kind, atom->a.substitute(values), atom->b.substitute(values));
      }
    }
    sum = sum + p;
  }
  return sum;
}

void Dim::collect_symbols(std::vector<std::string>& names) const {
  if (!terms_) return;
  for (const Term& t : *terms_) {
    for (const auto& atom : t.atoms) {
      if (atom->kind == kSymbol) {
        if (std::find(names.begin(), names.end(), atom->text) == names.end()) names.push_back(atom->text);
      } else {
        atom->a.collect_symbols(names);
        atom->b.collect_symbols(names);
      }
    }
  }
}

std::optional<std::int64_t> Dim::lower_bound() const {
  if (!terms_) return constant_;
  std::int64_t sum = 0;
  for (const Term& t : *terms_) {
    if (t.coefficient < 0 && !t.atoms.empty()) return std::nullopt;
    std::int64_t least = t.coefficient;
    for (const auto& atom : t.atoms) {
      std::optional<std::int64_t> a = atom_lower_bound(*atom);
      if (!a || *a < 0 || __builtin_mul_overflow(least, *a, &least)) return std::nullopt;
    }
    if (__builtin_add_overflow(sum, least, &sum)) return std::nullopt;
  }
  return sum;
}

std::optional<std::int64_t> Dim::atom_lower_bound(const Atom& atom) {
  if (atom.kind == kSymbol) return 1;
  std::optional<std::int64_t> a = atom.a.lower_bound();
  std::optional<std::int64_t> b = atom.b.lower_bound();
  if (atom.kind == kMin) return a && b ? std::optional(std::min(*a, *b)) : std::nullopt;
  if (atom.kind == kMax) return a && b ? std::max(*a, *b) : (a ? a : b);
  if (!a || !b || *b <= 0) return std::nullopt;
  if (!atom.b.is_constant()) return *a >= 0 ? std::optional<std::int64_t>(0) : std::nullopt;
  Result<std::int64_t> q = apply(atom.kind, *a, *b);
  return q.ok() ? std::optional(*q) : std::nullopt;
}

std::string Dim::to_string() const {
  if (!terms_) return std::to_string(constant_);
  std::string out;
  for (const Term& t : *terms_) {
    std::int64_t c = t.coefficient;
    if (!out.empty()) {
      out += c < 0 ? " - " : " + ";
      if (c < 0) c = -c;
    }
    if (t.atoms.empty()) {
      out += std::to_string(c);
      continue;
    }
    if (c == -1) out += "-";
    if (c != 1 && c != -1) out += std::to_string(c) + "*";
    out += t.key();
  }
  return out;
}

bool operator==(const Dim& a, const Dim& b) {
  if (a.is_constant() || b.is_constant()) return a.is_constant() && b.is_constant() && a.constant_ == b.constant_;
  if (a.terms_ == b.terms_) return true;
  return a.to_string() == b.to_string();
}

Dim operator+(const Dim& a, const Dim& b) {
  std::int64_t r;
  if (a.is_constant() && b.is_constant() && !__builtin_add_overflow(a.constant_, b.constant_, &r)) return r;
  std::vector<Dim::Term> terms = a.terms();
  std::vector<Dim::Term> more = b.terms();
  terms.insert(terms.end(), more.begin(), more.end());
  return Dim::from_terms(std::move(terms));
}

Dim operator-(const Dim& a, const Dim& b) {
  return a + b * Dim(-1);
}

Dim operator*(const Dim& a, const Dim& b) {
  // Sums multiply out, so a short text could ask for more terms than there is memory.
  const std::size_t x_terms = a.terms_ ? a.terms_->size() : 1;
  const std::size_t y_terms = b.terms_ ? b.terms_->size() : 1;
  if (x_terms * y_terms > kMaxTerms) return INT64_MAX;  // refused by every consumer, as an overflow is
  std::vector<Dim::Term> out;
  for (const Dim::Term& x : a.terms()) {
    for (const Dim::Term& y : b.terms()) {
      Dim::Term t{0, x.atoms};
      if (__builtin_mul_overflow(x.coefficient, y.coefficient, &t.coefficient)) t.coefficient = INT64_MAX;
      t.atoms.insert(t.atoms.end(), y.atoms.begin(), y.atoms.end());
      std::sort(t.atoms.begin(), t.atoms.end(), [](const auto& l, const auto& r) { return l->text < r->text; });
      out.push_back(std::move(t));
    }
  }
  return Dim::from_terms(std::move(out));
}

Dim function_of(int kind, const Dim& a, const Dim& b) {
  if (a.is_constant() && b.is_constant()) {
    Result<std::int64_t> v = apply(kind, a.constant(), b.constant());
    if (v.ok()) return *v;
  }
  if (kind == kMin || kind == kMax) {
    Dim difference = a - b;
    if (difference.is_constant()) return (difference.constant() <= 0) == (kind == kMin) ? a : b;
  } else if (b == Dim(1)) {
    return a;
  }
  Dim::Atom atom{kind, std::string(kKindNames[kind]) + "(" + a.to_string() + ", " + b.to_string() + ")", a, b};
  return Dim::from_terms({Dim::Term{1, {std::make_shared<const Dim::Atom>(std::move(atom))}}});
}

Dim floor_div(const Dim& a, const Dim& b) {
  if (a == b && !(a == Dim(0))) return 1;
  // Divides term by term where b is one product: (N*8 + 4) / 4, N*T*64 / (T*8).
  std::vector<Dim::Term> divisor = b.terms();
  if (divisor.size() == 1) {
    std::vector<Dim::Term> out;
    bool exact = true;
    for (Dim::Term t : a.terms()) {
      exact =
          divisor[0].coefficient != 0 && divisor[0].coefficient != -1 && t.coefficient % divisor[0].coefficient == 0;
      if (!exact) break;
      t.coefficient /= divisor[0].coefficient;
      for (const auto& atom : divisor[0].atoms) {
        auto it = std::find_if(t.atoms.begin(), t.atoms.end(), [&](const auto& x) { return x->text == atom->text; });
        exact = exact && it != t.atoms.end();
        if (!exact) break;
        t.atoms.erase(it);
      }
      if (!exact) break;
      out.push_back(std::move(t));
    }
    if (exact) return Dim::from_terms(std::move(out));
  }
  return function_of(kFloorDiv, a, b);
}

Dim ceil_div(const Dim& a, const Dim& b) {
  Dim q = floor_div(a, b);
  return q * b == a ? q : function_of(kCeilDiv, a, b);
}
Dim min(const Dim& a, const Dim& b) {
  return function_of(kMin, a, b);
}
Dim max(const Dim& a, const Dim& b) {
  return function_of(kMax, a, b);
}

namespace {

// sum = product (('+' | '-') product)* ; product = factor ('*' factor)* ; factor = '-' factor | number | name | f(sum,
// sum)
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<Dim> parse() {
    AOQ_ASSIGN(Dim d, sum(0));
    skip();
    if (at_ != text_.size()) return fail("end of the dimension");
    return d;
  }

 private:
  Status fail(std::string_view expected) {
    return error(Code::invalid_model, "dimension \"{}\": expected {} at column {}", text_, expected, at_ + 1);
  }
  void skip() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }
  bool take(char c) {
    skip();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  Result<Dim> sum(int depth) {
    if (depth > kMaxNesting) return error(Code::resource_limit, "dimension is nested deeper than {}", kMaxNesting);
    AOQ_ASSIGN(Dim d, product(depth));
    while (true) {
      if (take('+')) {
        AOQ_ASSIGN(Dim e, product(depth));
        d = d + e;
      } else if (take('-')) {
        AOQ_ASSIGN(Dim e, product(depth));
        d = d - e;
      } else {
        return d;
      }
    }
  }

  Result<Dim> product(int depth) {
    AOQ_ASSIGN(Dim d, factor(depth));
    while (take('*')) {
      AOQ_ASSIGN(Dim e, factor(depth));
      d = d * e;
    }
    return d;
  }

  Result<Dim> factor(int depth) {
    if (depth > kMaxNesting) return error(Code::resource_limit, "dimension is nested deeper than {}", kMaxNesting);
    if (take('-')) {
      AOQ_ASSIGN(Dim d, factor(depth + 1));
      return Dim(0) - d;
    }
    skip();
    std::size_t begin = at_;
    if (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') return number();
    auto is_name = [](char c) {
      return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' || c == '$';
    };
    while (at_ < text_.size() && is_name(text_[at_])) ++at_;
    if (begin == at_) return fail("a number, a symbol or a function");
    std::string_view name = text_.substr(begin, at_ - begin);
    if (!take('(')) return Dim::symbol(name);
    AOQ_ASSIGN(Dim a, sum(depth + 1));
    if (!take(',')) return fail("','");
    AOQ_ASSIGN(Dim b, sum(depth + 1));
    if (!take(')')) return fail("')'");
    if (name == "floordiv") return floor_div(a, b);
    if (name == "ceildiv") return ceil_div(a, b);
    if (name == "min") return min(a, b);
    if (name == "max") return max(a, b);
    return fail("floordiv, ceildiv, min or max");
  }

  Result<Dim> number() {
    std::int64_t v = 0;
    auto [end, ec] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), v);
    if (ec != std::errc()) return fail("a 64-bit number");
    at_ = static_cast<std::size_t>(end - text_.data());
    return Dim(v);
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

Result<Dim> Dim::parse(std::string_view text) {
  return Parser(text).parse();
}

std::string to_string(std::span<const Dim> dims) {
  std::string out = "[";
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (i > 0) out += ", ";
    out += dims[i].to_string();
  }
  return out + "]";
}

Dim product(std::span<const Dim> dims) {
  Dim p(1);
  for (const Dim& d : dims) p = p * d;
  return p;
}

bool all_constant(std::span<const Dim> dims) {
  return std::all_of(dims.begin(), dims.end(), [](const Dim& d) { return d.is_constant(); });
}

Result<std::vector<std::int64_t>> evaluate(std::span<const Dim> dims, const SymbolValues& values) {
  std::vector<std::int64_t> out;
  out.reserve(dims.size());
  for (const Dim& d : dims) {
    AOQ_ASSIGN(std::int64_t v, d.evaluate(values));
    if (v < 0) return error(Code::invalid_data, "dimension {} is {}, which is negative", d.to_string(), v);
    out.push_back(v);
  }
  return out;
}

}  // namespace aoq
