#include "monitor/qmp/json_text.h"

#include <cctype>
#include <nlohmann/json.hpp>

namespace limen::monitor {
namespace {

using Json = nlohmann::json;

void write(const Json& value, bool pretty, size_t depth, std::string& into) {
  const auto new_line = [&](size_t level) {
    if (!pretty) return;
    into += '\n';
    into.append(4 * level, ' ');
  };
  if (value.is_object() || value.is_array()) {
    const bool object = value.is_object();
    into += object ? '{' : '[';
    bool first = true;
    for (const auto& item : value.items()) {
      if (!first) into += pretty ? "," : ", ";
      first = false;
      new_line(depth + 1);
      if (object) {
        into += Json(item.key()).dump(-1, ' ', true, Json::error_handler_t::replace);
        into += ": ";
      }
      write(item.value(), pretty, depth + 1, into);
    }
    if (!first) new_line(depth);
    into += object ? '}' : ']';
    return;
  }
  into += value.dump(-1, ' ', true, Json::error_handler_t::replace);
}

/// With single-quoted strings in double quotes.
std::string standard_quotes(const std::string& text) {
  std::string out;
  out.reserve(text.size());
  char quote = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quote == 0) {
      if (c == '"' || c == '\'') quote = c;
      out += quote == '\'' ? '"' : c;
    } else if (c == '\\' && i + 1 < text.size()) {
      if (text[i + 1] != '\'') out += c;
      out += text[++i];
    } else if (c == quote) {
      quote = 0;
      out += '"';
    } else {
      if (c == '"') out += '\\';
      out += c;
    }
  }
  return out;
}

std::string invalid_keyword(const std::string& text) {
  size_t at = text.find_first_not_of(" \t\r\n{[:,");
  std::string word;
  while (at < text.size() && std::isalpha(static_cast<unsigned char>(text[at])) != 0)
    word += text[at++];
  return word;
}

}  // namespace

std::string write_json(const Json& value, bool pretty) {
  std::string text;
  write(value, pretty, 0, text);
  return text;
}

Result<Json> parse_json(const std::string& text) {
  Json value = Json::parse(text.find('\'') == std::string::npos ? text : standard_quotes(text),
                           nullptr, false);
  if (!value.is_discarded()) return value;
  const auto word = invalid_keyword(text);
  if (!word.empty() && word != "true" && word != "false" && word != "null")
    return fail("JSON parse error, invalid keyword '{}'", word);
  if (text.size() == 1 && (text == "}" || text == "]" || text == "," || text == ":"))
    return fail("JSON parse error, expecting value");
  return fail("Invalid JSON syntax");
}

void JsonFramer::feed(std::span<const uint8_t> bytes) {
  for (const uint8_t byte : bytes) take(static_cast<char>(byte));
}

void JsonFramer::reset() {
  text_.clear();
  nesting_ = 0;
  quote_ = 0;
  escaped_ = skipping_ = false;
}

void JsonFramer::give_up(const char* reason) {
  text_.clear();
  text_.shrink_to_fit();
  skipping_ = true;
  complete_(fail("{}", reason));
}

void JsonFramer::finish() {
  const bool skipped = skipping_;
  std::string text = std::move(text_);
  reset();
  if (!skipped && !text.empty()) complete_(std::move(text));
}

void JsonFramer::take(char c) {
  // No byte of UTF-8: a client that lost its place begins anew with it, as with QEMU.
  if (static_cast<unsigned char>(c) == 0xFF) return reset();
  if (quote_ != 0) {
    if (escaped_)
      escaped_ = false;
    else if (c == '\\')
      escaped_ = true;
    else if (c == quote_)
      quote_ = 0;
    else if (static_cast<unsigned char>(c) < 0x20) {
      // No string spans lines: what comes is another message.
      reset();
      complete_(fail("JSON parse error, invalid keyword"));
      return;
    }
  } else if (c == '"' || c == '\'') {
    quote_ = c;
  } else if (c == '{' || c == '[') {
    if (nesting_ == 0 && !text_.empty()) finish();
    ++nesting_;
  } else if (c == '}' || c == ']') {
    if (nesting_ == 0) {
      finish();
      text_ = c;
      return finish();
    }
    --nesting_;
    if (!skipping_) text_ += c;
    if (nesting_ == 0) finish();
    return;
  } else if (nesting_ == 0 && std::isspace(static_cast<unsigned char>(c)) != 0) {
    return finish();
  }
  if (skipping_) return;
  text_ += c;
  if (nesting_ > kMostNesting) give_up("JSON nesting depth limit exceeded");
  if (text_.size() > kMostBytes) give_up("JSON token size limit exceeded");
}

}  // namespace limen::monitor
