#include "tools/tuning_file.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "formats/json/json.h"
#include "passes/quantize/weights.h"
#include "tools/placement_model.h"
#include "tools/suggest.h"

namespace aoq::tools {

namespace {

constexpr const char* kFormat = "aoq-tuning";
constexpr std::int64_t kFileVersion = 1;
constexpr double kMostMicroseconds = 1e12;
constexpr const char* kChosen[] = {"mixed", "int8", "float32"};

// Figures to a nanosecond: more digits would say more than was measured.
double rounded(double microseconds) {
  return std::round(microseconds * 1000) / 1000;
}

// One object of the file, read member by member.
class Members {
 public:
  Members(const Json& object, std::string where) : object_(object), where_(std::move(where)) {}

  Status check(std::initializer_list<std::string_view> known) const {
    if (!object_.is_object()) return error(Code::invalid_data, "{} is no object", where_);
    const std::vector<std::string> names(known.begin(), known.end());
    for (const auto& [key, value] : object_.items()) {
      if (std::find(names.begin(), names.end(), key) != names.end()) continue;
      return error(Code::invalid_data, "{} has the unknown member \"{}\"{}; known: {}", where_, key,
                   did_you_mean(key, names), fmt::join(names, ", "));
    }
    return {};
  }

  bool has(std::string_view key) const { return json_find(object_, key) != nullptr; }

  Status read(std::string_view key, std::string& out) const { return take(json_string(object_, key), out); }
  Status read(std::string_view key, bool& out) const { return take(json_bool(object_, key), out); }
  Status read(std::string_view key, std::int64_t& out) const {
    AOQ_TRY(take(json_integer(object_, key), out));
    return out >= 0 ? Status() : error(Code::invalid_data, "{}: \"{}\" is {}, expected 0 or more", where_, key, out);
  }
  Status read(std::string_view key, double& out) const {
    AOQ_TRY(take(json_number(object_, key), out));
    if (out >= 0 && out <= kMostMicroseconds) return {};
    return error(Code::invalid_data, "{}: \"{}\" is {}, expected 0 to {}", where_, key, out, kMostMicroseconds);
  }
  template <class T>
  Status read_if_there(std::string_view key, T& out) const {
    return has(key) ? read(key, out) : Status();
  }
  // Of a word out of `names`, which one.
  Result<std::size_t> choice(std::string_view key, std::span<const char* const> names) const {
    std::string word;
    AOQ_TRY(read(key, word));
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (word == names[i]) return i;
    }
    return error(Code::invalid_data, "{}: \"{}\" is \"{}\", expected one of {}", where_, key, word,
                 fmt::join(names, ", "));
  }
  // Calls `each` with the elements of a list that may be missing.
  template <class F>
  Status each(std::string_view key, F each) const {
    const Json* list = json_find(object_, key);
    if (list == nullptr) return {};
    if (!list->is_array()) return error(Code::invalid_data, "{}: \"{}\" is no list", where_, key);
    for (std::size_t i = 0; i < list->size(); ++i) {
      AOQ_TRY(each(Members((*list)[i], fmt::format("{}[{}]", key, i))));
    }
    return {};
  }

  const std::string& where() const { return where_; }

 private:
  template <class T>
  Status take(Result<T> found, T& out) const {
    if (!found.ok()) return std::move(found).status().with_context(where_);
    out = std::move(*found);
    return {};
  }

  const Json& object_;
  std::string where_;
};

Status read_op(const Members& m, Tuning& tuning) {
  AOQ_TRY(m.check({"name", "op", "key", "float_us", "int8_us", "noise", "runs", "region", "float_row", "int8_row"}));
  Tuning::Op& op = tuning.ops.emplace_back();
  AOQ_TRY(m.read("name", op.name));
  AOQ_TRY(m.read("op", op.op));
  AOQ_TRY(m.read_if_there("key", op.key));
  AOQ_TRY(m.read("float_us", op.float_us));
  AOQ_TRY(m.read("int8_us", op.int8_us));
  AOQ_TRY(m.read_if_there("noise", op.noise));
  constexpr const char* kPrecisions[] = {"float32", "int8"};
  AOQ_ASSIGN(const std::size_t runs, m.choice("runs", kPrecisions));
  op.runs_in_int8 = runs == 1;
  if (m.has("region")) {
    std::int64_t region = 0;
    AOQ_TRY(m.read("region", region));
    op.region = static_cast<std::size_t>(region);
  }
  AOQ_TRY(m.read_if_there("float_row", op.float_row));
  return m.read_if_there("int8_row", op.int8_row);
}

Status read_region(const Members& m, Tuning& tuning) {
  AOQ_TRY(m.check({"float_us", "int8_us"}));
  Tuning::Region& region = tuning.regions.emplace_back();
  AOQ_TRY(m.read("float_us", region.float_us));
  return m.read("int8_us", region.int8_us);
}

Status read_row(const Members& m, Tuning& tuning) {
  AOQ_TRY(m.check({"name", "op", "row", "us", "before", "before_us"}));
  Tuning::Row& row = tuning.rows.emplace_back();
  AOQ_TRY(m.read("name", row.name));
  AOQ_TRY(m.read("op", row.op));
  AOQ_TRY(m.read("row", row.row));
  AOQ_TRY(m.read_if_there("us", row.us));
  AOQ_TRY(m.read_if_there("before", row.before));
  return m.read_if_there("before_us", row.before_us);
}

Status read_whole(const Json& json, Tuning& tuning) {
  const Json* whole = json_find(json, "whole");
  if (whole == nullptr) return {};
  const Members m(*whole, "whole");
  AOQ_TRY(m.check({"float_us", "int8_us", "chosen_us", "chosen"}));
  Tuning::Whole& out = tuning.whole.emplace();
  AOQ_TRY(m.read("float_us", out.float_us));
  AOQ_TRY(m.read("int8_us", out.int8_us));
  AOQ_TRY(m.read("chosen_us", out.chosen_us));
  AOQ_ASSIGN(const std::size_t chosen, m.choice("chosen", kChosen));
  out.chosen = static_cast<Tuning::Chosen>(chosen);
  return {};
}

Status read_shapes(const Json& json, Tuning& tuning) {
  const Json* shapes = json_find(json, "shapes");
  if (shapes == nullptr) return {};
  if (!shapes->is_object()) return error(Code::invalid_data, "\"shapes\" is no object");
  for (const auto& [name, dims] : shapes->items()) {
    const bool fits = dims.is_array() && std::all_of(dims.begin(), dims.end(), [](const Json& d) {
                        return d.is_number_unsigned() || (d.is_number_integer() && d.get<std::int64_t>() >= 0);
                      });
    if (!fits) return error(Code::invalid_data, "\"shapes\": the shape of \"{}\" is no list of sizes", name);
    for (const Json& d : dims) tuning.shapes[name].push_back(d.get<std::int64_t>());
  }
  return {};
}

// What the file is, before anything else of it is looked at.
Status check_form(const Json& json) {
  const Members m(json, "the file");
  if (!json.is_object() || !m.has("format")) {
    return error(Code::invalid_data, "no tuning file: expected an object with \"format\": \"{}\"", kFormat);
  }
  std::string format;
  AOQ_TRY(m.read("format", format));
  if (format != kFormat) {
    return error(Code::invalid_data, "\"format\" is \"{}\", expected \"{}\": this is no tuning file", format, kFormat);
  }
  std::int64_t version = 0;
  AOQ_TRY(m.read("version", version));
  if (version != kFileVersion) {
    return error(Code::invalid_data, "\"version\" is {}, this aoq reads {}: tune again with this one", version,
                 kFileVersion);
  }
  return m.check({"format", "version", "aoq", "isa", "onednn", "threads", "deterministic", "quantize", "source_hash",
                  "shapes", "noise", "ops", "regions", "rows", "whole"});
}

Json op_json(const Tuning::Op& op) {
  Json json{{"name", op.name},
            {"op", op.op},
            {"float_us", rounded(op.float_us)},
            {"int8_us", rounded(op.int8_us)},
            {"noise", rounded(op.noise)},
            {"runs", op.runs_in_int8 ? "int8" : "float32"}};
  if (!op.key.empty()) json["key"] = op.key;
  if (op.region) json["region"] = *op.region;
  if (!op.float_row.empty()) json["float_row"] = op.float_row;
  if (!op.int8_row.empty()) json["int8_row"] = op.int8_row;
  return json;
}

// Why an op of the file is in float.
std::string why(const Tuning& tuning, const Tuning::Op& op) {
  if (!op.region) {
    const std::optional<Tuning::Whole>& whole = tuning.whole;
    if (whole && whole->chosen == Tuning::Chosen::in_float) {
      return figures(whole->int8_us, whole->float_us, "here", "for the whole model");
    }
    return figures(op.int8_us, op.float_us, "here", "with its conversions");
  }
  const auto in_region = std::count_if(tuning.ops.begin(), tuning.ops.end(),
                                       [&](const Tuning::Op& other) { return other.region == op.region; });
  const Tuning::Region& region = tuning.regions[*op.region];
  const std::string with =
      in_region == 1 ? "with its conversions" : fmt::format("for it and {} beside it, with conversions", in_region - 1);
  return figures(region.int8_us, region.float_us, "here", with);
}

std::string short_us(double us) {
  return us < 10 ? fmt::format("{:.2g}", us) : fmt::format("{:.0f}", us);
}

}  // namespace

std::string figures(double int8_us, double float_us, std::string_view where, std::string_view with) {
  std::string int8 = short_us(int8_us), in_float = short_us(float_us);
  if (int8 == in_float) int8 = fmt::format("{:.5g}", int8_us), in_float = fmt::format("{:.5g}", float_us);
  return fmt::format("int8 takes {} us, float {} us {}, {}", int8, in_float, where, with);
}

std::string Tuning::to_json() const {
  Json json{{"format", kFormat},
            {"version", kFileVersion},
            {"aoq", aoq},
            {"isa", isa},
            {"onednn", onednn},
            {"threads", threads},
            {"deterministic", deterministic},
            {"quantize", quantize},
            {"source_hash", source_hash},
            {"noise", rounded(noise)},
            {"shapes", Json::object()},
            {"ops", Json::array()},
            {"regions", Json::array()},
            {"rows", Json::array()}};
  for (const auto& [name, shape] : shapes) json["shapes"][name] = shape;
  for (const Op& op : ops) json["ops"].push_back(op_json(op));
  for (const Region& r : regions) {
    json["regions"].push_back({{"float_us", rounded(r.float_us)}, {"int8_us", rounded(r.int8_us)}});
  }
  for (const Row& r : rows) {
    json["rows"].push_back({{"name", r.name},
                            {"op", r.op},
                            {"row", r.row},
                            {"us", rounded(r.us)},
                            {"before", r.before},
                            {"before_us", rounded(r.before_us)}});
  }
  if (whole) {
    json["whole"] = {{"float_us", rounded(whole->float_us)},
                     {"int8_us", rounded(whole->int8_us)},
                     {"chosen_us", rounded(whole->chosen_us)},
                     {"chosen", kChosen[static_cast<int>(whole->chosen)]}};
  }
  return dump_json_indented(json) + "\n";
}

Result<Tuning> Tuning::from_json(std::string_view text) {
  AOQ_ASSIGN(const Json json, parse_json(text));
  AOQ_TRY(check_form(json));
  const Members m(json, "the file");
  Tuning tuning;
  AOQ_TRY(m.read_if_there("aoq", tuning.aoq));
  AOQ_TRY(m.read_if_there("isa", tuning.isa));
  AOQ_TRY(m.read_if_there("onednn", tuning.onednn));
  AOQ_TRY(m.read_if_there("threads", tuning.threads));
  AOQ_TRY(m.read_if_there("deterministic", tuning.deterministic));
  AOQ_TRY(m.read_if_there("quantize", tuning.quantize));
  AOQ_TRY(m.read_if_there("source_hash", tuning.source_hash));
  AOQ_TRY(m.read_if_there("noise", tuning.noise));
  AOQ_TRY(read_shapes(json, tuning));
  AOQ_TRY(m.each("ops", [&](const Members& op) { return read_op(op, tuning); }));
  AOQ_TRY(m.each("regions", [&](const Members& region) { return read_region(region, tuning); }));
  AOQ_TRY(m.each("rows", [&](const Members& row) { return read_row(row, tuning); }));
  AOQ_TRY(read_whole(json, tuning));
  for (std::size_t i = 0; i < tuning.ops.size(); ++i) {
    const std::optional<std::size_t>& region = tuning.ops[i].region;
    if (!region || *region < tuning.regions.size()) continue;
    return error(Code::invalid_data, "ops[{}]: \"region\" is {}, the file has {} regions", i, *region,
                 tuning.regions.size());
  }
  return tuning;
}

Status apply_tuning(const Tuning& tuning, Graph& traced, std::vector<std::string>& warnings) {
  std::multimap<std::string, Node*> by_name;
  for (Node* n : traced.nodes()) {
    if (!n->def().has_trait(kStructural)) by_name.emplace(n->label(), n);
  }
  std::vector<std::string> missing, reshaped;
  for (const Tuning::Op& op : tuning.ops) {
    bool is_there = false, fits = false;
    for (auto [it, end] = by_name.equal_range(op.name); it != end; ++it) {
      if (it->second->def().name != op.op) continue;
      is_there = true;
      if (!op.key.empty() && op.key != shape_key(*it->second)) continue;
      fits = true;
      // Views cost nothing, and follow what is around them.
      const bool is_view = it->second->def().has_trait(kView);
      if (!op.runs_in_int8 && !is_view) decline(it->second, why(tuning, op));
    }
    if (!is_there) missing.push_back(op.name);
    if (is_there && !fits) reshaped.push_back(op.name);
  }
  if (!tuning.ops.empty() && missing.size() == tuning.ops.size()) {
    return error(Code::invalid_data, "it is of another model: this one has no op \"{}\"; tune this model", missing[0]);
  }
  if (!missing.empty()) {
    warnings.push_back(fmt::format("tuning: the model has no op {}; tune it again", fmt::join(missing, ", ")));
  }
  if (!reshaped.empty()) {
    warnings.push_back(fmt::format("tuning: {} had other shapes when tuned and {} not decided by the file; tune again",
                                   fmt::join(reshaped, ", "), reshaped.size() == 1 ? "is" : "are"));
  }
  return {};
}

}  // namespace aoq::tools
