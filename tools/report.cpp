#include "tools/report.h"

#include <fmt/format.h>

#include "tools/console.h"

namespace aoq::tools {

namespace {

constexpr const char* kStyle =
    "body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;width:100%;margin:1rem 0}td,th{text-align:left;padding:.3rem .6rem;"
    "border-bottom:1px solid #ddd;vertical-align:top}th{background:#f5f5f5}.int8{color:#0a6}.float{color:#b50}"
    "code,pre{font:13px ui-monospace,monospace}pre{background:#f5f5f5;padding:.8rem;overflow:auto}";

std::string escaped(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string op_row(const OpEntry& e) {
  const char* style = e.runs == "int8" ? "int8" : runs_in_float(e) ? "float" : "";
  std::string reason = escaped(e.reason);
  for (const Refusal& r : e.refused) {
    reason += fmt::format("{}<code>{}</code>: {}", reason.empty() ? "" : "<br>", escaped(r.row), escaped(r.reason));
  }
  return fmt::format(
      "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"{}\">{}</td><td><code>{}</code></td><td>{}</td></tr>\n",
      escaped(e.name), escaped(e.op), escaped(e.requested), style, escaped(e.runs), escaped(e.kernel), reason);
}

}  // namespace

std::string html_report(const std::string& model, const std::vector<OpEntry>& ops, const Json& summary,
                        const std::string& provenance) {
  std::string counts, rows;
  for (const auto& [precision, count] : count_by_precision(ops)) {
    counts += fmt::format("<tr><td>{}</td><td>{}</td></tr>\n", escaped(precision), count);
  }
  for (const OpEntry& e : ops) rows += op_row(e);
  std::string warnings;
  for (const Json& w : summary["warnings"]) warnings += "<li>" + escaped(w.get<std::string>()) + "</li>\n";
  if (!warnings.empty()) warnings = "<h2>Warnings</h2>\n<ul>" + warnings + "</ul>\n";
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>aoq: "
      "{0}</title><style>{1}</style></head>\n"
      "<body><h1>{0}</h1>\n<p>Compiled from {2} to {3}.</p>\n{7}"
      "<h2>Ops by precision</h2>\n<table><tr><th>precision</th><th>ops</th></tr>\n{4}</table>\n"
      "<h2>Every op</h2>\n<table><tr><th>name</th><th>op</th><th>asked for</th><th>runs "
      "in</th><th>kernel</th><th>why</th></tr>\n"
      "{5}</table>\n<h2>Where it came from</h2>\n<pre>{6}</pre>\n</body></html>\n",
      escaped(model), kStyle, format_bytes(summary["input_bytes"].get<std::uint64_t>()),
      format_bytes(summary["output_bytes"].get<std::uint64_t>()), counts, rows, escaped(provenance), warnings);
}

}  // namespace aoq::tools
