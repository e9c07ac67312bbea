#include "conformance/not_covered.h"

#include <fstream>

namespace limen::conformance {
namespace {

// The names in `text`; true when a colon outside of backquotes ends them.
bool take_names(const std::string& text, std::set<std::string>& names) {
  std::string name;
  bool quoted = false;
  for (const char c : text) {
    if (c == '`') {
      if (quoted) names.insert(name);
      name.clear();
      quoted = !quoted;
    } else if (quoted) {
      name += c;
    } else if (c == ':') {
      return true;
    }
  }
  return false;
}

}  // namespace

Result<std::set<std::string>> read_not_covered(const std::string& path) {
  std::ifstream file(path);
  if (!file) return fail("cannot read {}", path);
  std::set<std::string> names;
  bool in_item = false;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("- ")) in_item = true;
    if (in_item) in_item = !take_names(line, names);
  }
  return names;
}

}  // namespace limen::conformance
