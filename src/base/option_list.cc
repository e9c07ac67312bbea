#include "base/option_list.h"

namespace limen {

Result<OptionList> parse_option_list(std::string_view text, std::string_view implied_key) {
  OptionList list;
  size_t at = 0;
  bool first = true;
  while (at <= text.size() && !(first && text.empty())) {
    // One part ends at a comma that is not doubled.
    std::string part;
    for (; at < text.size(); ++at) {
      if (text[at] == ',') {
        if (at + 1 < text.size() && text[at + 1] == ',')
          ++at;
        else
          break;
      }
      part += text[at];
    }
    ++at;
    const auto equals = part.find('=');
    if (part.empty()) {
      return fail("an empty part between commas (a comma inside a value is written ',,')");
    } else if (equals == 0) {
      return fail("'{}' has no key before '='", part);
    } else if (equals != std::string::npos) {
      list.emplace_back(part.substr(0, equals), part.substr(equals + 1));
    } else if (first && !implied_key.empty()) {
      list.emplace_back(implied_key, part);
    } else {
      list.emplace_back(part, "on");
    }
    first = false;
  }
  return list;
}

}  // namespace limen
