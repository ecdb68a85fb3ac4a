#include "passes/quantize/calibration.h"

#include <algorithm>
#include <cmath>

#include "formats/json/json.h"
#include "ir/type.h"
#include "passes/quantize/check_recipe.h"

namespace aoq {

namespace {

template <typename T>
Json reals_to_json(const std::vector<T>& values) {
  Json list = Json::array();
  for (T v : values) list.push_back(hex_float(static_cast<double>(v)));
  return list;
}

template <typename T>
Result<std::vector<T>> reals_from_json(const Json& json, std::string_view key) {
  const Json* list = json_find(json, key);
  if (list == nullptr || !list->is_array()) return error(Code::invalid_data, "\"{}\" is no list", key);
  std::vector<T> values;
  for (const Json& entry : *list) {
    if (!entry.is_string()) return error(Code::invalid_data, "an entry of \"{}\" is no hexadecimal float", key);
    AOQ_ASSIGN(double v, parse_hex_float(entry.get<std::string>()));
    if (!std::isfinite(v)) return error(Code::invalid_data, "an entry of \"{}\" is {}", key, v);
    values.push_back(static_cast<T>(v));
  }
  return values;
}

Json channels_to_json(const ChannelStatistics& c) {
  return {
      {"count", c.count}, {"sum", reals_to_json(c.sum)}, {"min", reals_to_json(c.min)}, {"max", reals_to_json(c.max)}};
}

Result<ChannelStatistics> channels_from_json(const Json& json) {
  ChannelStatistics c;
  AOQ_ASSIGN(c.count, json_integer(json, "count"));
  AOQ_ASSIGN(c.sum, reals_from_json<double>(json, "sum"));
  AOQ_ASSIGN(c.min, reals_from_json<float>(json, "min"));
  AOQ_ASSIGN(c.max, reals_from_json<float>(json, "max"));
  if (c.min.size() == c.sum.size() && c.max.size() == c.sum.size()) return c;
  return error(Code::invalid_data, "\"sum\", \"min\" and \"max\" have {}, {} and {} entries, expected as many",
               c.sum.size(), c.min.size(), c.max.size());
}

Status merge_channels(const ChannelStatistics& other, ChannelStatistics& mine) {
  if (mine.sum.empty()) {
    mine = other;
    return {};
  }
  if (mine.sum.size() != other.sum.size()) {
    return error(Code::invalid_data, "{} channels here, {} there: they belong to different models", mine.sum.size(),
                 other.sum.size());
  }
  for (std::size_t i = 0; i < other.sum.size(); ++i) {
    mine.sum[i] += other.sum[i];
    mine.min[i] = std::min(mine.min[i], other.min[i]);
    mine.max[i] = std::max(mine.max[i], other.max[i]);
  }
  mine.count += other.count;
  return {};
}

}  // namespace

std::string channels_of_input(const Node& reader) {
  return reader.label();
}

std::string channels_of_residual(const Node& reader) {
  return reader.label() + ":residual";
}

std::string Ranges::to_json() const {
  Json json{{"format", "aoq-ranges"}, {"version", 1}, {"samples", samples}};
  json["observers"] = Json::object();
  json["channels"] = Json::object();
  for (const auto& [name, observer] : observers) json["observers"][name] = observer_to_json(*observer);
  for (const auto& [name, statistics] : channels) json["channels"][name] = channels_to_json(statistics);
  return dump_json_indented(json);
}

Result<Ranges> Ranges::from_json(std::string_view text) {
  AOQ_ASSIGN(Json json, parse_json(text));
  AOQ_ASSIGN(std::string format, json_string(json, "format"));
  if (format != "aoq-ranges") return error(Code::invalid_data, "format is \"{}\", expected \"aoq-ranges\"", format);
  Ranges ranges;
  AOQ_ASSIGN(ranges.samples, json_integer(json, "samples"));
  const Json* observers = json_find(json, "observers");
  if (observers == nullptr || !observers->is_object()) return error(Code::invalid_data, "\"observers\" is no object");
  for (const auto& [name, entry] : observers->items()) {
    Result<std::unique_ptr<Observer>> observer = observer_from_json(entry);
    if (!observer.ok()) return std::move(observer).status().with_context(name);
    Status finite = check_finite_state((*observer)->state());
    if (!finite.ok()) return std::move(finite).with_context(fmt::format("observer \"{}\"", name));
    ranges.observers[name] = std::move(*observer);
  }
  if (const Json* listed = json_find(json, "channels"); listed != nullptr && listed->is_object()) {
    for (const auto& [name, entry] : listed->items()) {
      Result<ChannelStatistics> statistics = channels_from_json(entry);
      if (!statistics.ok()) return std::move(statistics).status().with_context(name);
      ranges.channels[name] = std::move(*statistics);
    }
  }
  return ranges;
}

Status Ranges::merge(const Ranges& other) {
  for (const auto& [name, observer] : other.observers) {
    auto it = observers.find(name);
    if (it == observers.end()) {
      return error(Code::invalid_data, "\"{}\" is in one ranges file only: they belong to different models or recipes",
                   name);
    }
    Status merged = it->second->merge(*observer);
    if (!merged.ok()) return std::move(merged).with_context(name);
  }
  for (const auto& [name, statistics] : other.channels) {
    Status merged = merge_channels(statistics, channels[name]);
    if (!merged.ok()) return std::move(merged).with_context(name);
  }
  samples += other.samples;
  return {};
}

}  // namespace aoq
