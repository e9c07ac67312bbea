#include <array>
#include <cctype>
#include <charconv>

#include "monitor/hmp/command.h"
#include "x86/registers.h"

namespace limen::monitor {
namespace {

constexpr unsigned kMostDepth = 64;  // of parentheses and signs

/// A recursive-descent reader of the expressions that QEMU's monitor takes: sums of logic of
/// products, in this order of binding.
class Expression {
 public:
  Expression(HumanInterpreter& interpreter, std::string_view& text)
      : interpreter_(interpreter), text_(text) {}

  Result<int64_t> sum() {
    if (++depth_ > kMostDepth) return fail("expression is nested too deeply");
    int64_t value = LIMEN_TRY(logic());
    for (;;) {
      skip();
      if (take('+'))
        value = wrap(value, LIMEN_TRY(logic()), '+');
      else if (take('-'))
        value = wrap(value, LIMEN_TRY(logic()), '-');
      else
        break;
    }
    --depth_;
    return value;
  }

 private:
  static int64_t wrap(int64_t a, int64_t b, char operation) {
    const auto left = static_cast<uint64_t>(a);
    const auto right = static_cast<uint64_t>(b);
    return static_cast<int64_t>(operation == '+'   ? left + right
                                : operation == '-' ? left - right
                                                   : left * right);
  }

  Result<int64_t> logic() {
    int64_t value = LIMEN_TRY(product());
    for (;;) {
      skip();
      if (take('&'))
        value &= LIMEN_TRY(product());
      else if (take('|'))
        value |= LIMEN_TRY(product());
      else if (take('^'))
        value ^= LIMEN_TRY(product());
      else
        return value;
    }
  }

  Result<int64_t> product() {
    int64_t value = LIMEN_TRY(unary());
    for (;;) {
      skip();
      const char operation = text_.empty() ? 0 : text_.front();
      if (operation != '*' && operation != '/' && operation != '%') return value;
      text_.remove_prefix(1);
      const int64_t right = LIMEN_TRY(unary());
      if (operation == '*') {
        value = wrap(value, right, '*');
        continue;
      }
      if (right == 0) return fail("division by zero");
      if (right == -1)
        value = operation == '/' ? wrap(0, value, '-') : 0;
      else
        value = operation == '/' ? value / right : value % right;
    }
  }

  Result<int64_t> unary() {
    if (++depth_ > kMostDepth) return fail("expression is nested too deeply");
    skip();
    int64_t value = 0;
    if (take('+')) {
      value = LIMEN_TRY(unary());
    } else if (take('-')) {
      value = wrap(0, LIMEN_TRY(unary()), '-');
    } else if (take('~')) {
      value = ~LIMEN_TRY(unary());
    } else if (take('(')) {
      value = LIMEN_TRY(sum());
      skip();
      if (!take(')')) return fail("')' expected");
    } else if (take('\'')) {
      if (text_.size() < 2 || text_[1] != '\'') return fail("missing terminating ' character");
      value = static_cast<unsigned char>(text_.front());
      text_.remove_prefix(2);
    } else if (take('$')) {
      value = LIMEN_TRY(register_value());
    } else {
      value = LIMEN_TRY(number());
    }
    --depth_;
    return value;
  }

  Result<int64_t> number() {
    int base = 10;
    std::string_view digits = text_;
    if (digits.starts_with("0x") || digits.starts_with("0X")) {
      base = 16;
      digits.remove_prefix(2);
    } else if (digits.size() > 1 && digits.front() == '0' &&
               std::isdigit(static_cast<unsigned char>(digits[1])) != 0) {
      base = 8;
    }
    uint64_t value = 0;
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
    if (error == std::errc::result_out_of_range) return fail("number too large");
    if (error != std::errc()) {
      if (text_.empty()) return fail("unexpected end of expression");
      return fail("invalid char '{}' in expression", text_.front());
    }
    text_ = digits.substr(static_cast<size_t>(end - digits.data()));
    return static_cast<int64_t>(value);
  }

  Result<int64_t> register_value() {
    size_t length = 0;
    while (length < text_.size() && std::isalnum(static_cast<unsigned char>(text_[length])) != 0)
      ++length;
    const auto name = text_.substr(0, length);
    text_.remove_prefix(length);
    const auto state = LIMEN_TRY(interpreter_.state());
    constexpr std::array<std::string_view, 16> kNames = {"ax", "cx", "dx", "bx", "sp", "bp",
                                                         "si", "di", "8",  "9",  "10", "11",
                                                         "12", "13", "14", "15"};
    const auto as_value = [](uint64_t value) { return static_cast<int64_t>(value); };
    for (size_t i = 0; i < kNames.size(); ++i) {
      if (name.size() > 1 && name.front() == 'r' && name.substr(1) == kNames[i])
        return as_value(state.gpr[i]);
      if (i < 8 && name.size() > 1 && name.front() == 'e' && name.substr(1) == kNames[i])
        return as_value(state.gpr[i]);
    }
    const auto& system = state.system;
    constexpr std::array<std::string_view, 6> kSegments = {"es", "cs", "ss", "ds", "fs", "gs"};
    for (size_t i = 0; i < kSegments.size(); ++i) {
      if (name == kSegments[i]) return as_value(system.segments[i].selector);
      if (name.ends_with("base") && name.substr(0, 2) == kSegments[i] && name.size() == 6)
        return as_value(system.segments[i].base);
    }
    if (name == "pc" || name == "rip" || name == "eip") return as_value(state.rip);
    if (name == "sp") return as_value(state.gpr[x86::kRsp]);
    if (name == "fp") return as_value(state.gpr[x86::kRbp]);
    if (name == "eflags" || name == "rflags") return as_value(state.rflags);
    if (name == "cr0") return as_value(system.cr0);
    if (name == "cr2") return as_value(system.cr2);
    if (name == "cr3") return as_value(system.cr3);
    if (name == "cr4") return as_value(system.cr4);
    if (name == "efer") return as_value(system.efer);
    return fail("unknown register");
  }

  void skip() {
    while (!text_.empty() && std::isspace(static_cast<unsigned char>(text_.front())) != 0)
      text_.remove_prefix(1);
  }
  bool take(char c) {
    if (text_.empty() || text_.front() != c) return false;
    text_.remove_prefix(1);
    return true;
  }

  HumanInterpreter& interpreter_;
  std::string_view& text_;
  unsigned depth_ = 0;
};

}  // namespace

Result<int64_t> evaluate(HumanInterpreter& interpreter, std::string_view& text) {
  return Expression(interpreter, text).sum();
}

void Words::skip_spaces() {
  while (!rest_.empty() && std::isspace(static_cast<unsigned char>(rest_.front())) != 0)
    rest_.remove_prefix(1);
}

bool Words::at_end() {
  skip_spaces();
  return rest_.empty();
}

std::string Words::word() {
  skip_spaces();
  std::string word;
  if (!rest_.empty() && rest_.front() == '"') {
    rest_.remove_prefix(1);
    while (!rest_.empty() && rest_.front() != '"') {
      if (rest_.front() == '\\' && rest_.size() > 1) rest_.remove_prefix(1);
      word += rest_.front();
      rest_.remove_prefix(1);
    }
    if (!rest_.empty()) rest_.remove_prefix(1);
    return word;
  }
  while (!rest_.empty() && std::isspace(static_cast<unsigned char>(rest_.front())) == 0) {
    word += rest_.front();
    rest_.remove_prefix(1);
  }
  return word;
}

std::string Words::all() {
  skip_spaces();
  std::string text(rest_);
  rest_ = {};
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0)
    text.pop_back();
  return text;
}

Result<int64_t> Words::expression() { return evaluate(interpreter_, rest_); }

bool Words::flag(char letter) {
  skip_spaces();
  if (rest_.size() < 2 || rest_[0] != '-' || rest_[1] != letter) return false;
  if (rest_.size() > 2 && std::isspace(static_cast<unsigned char>(rest_[2])) == 0) return false;
  rest_.remove_prefix(2);
  return true;
}

Result<HumanInterpreter::Format> Words::format() {
  skip_spaces();
  HumanInterpreter::Format format = interpreter_.last_format;
  format.count = 1;
  if (rest_.empty() || rest_.front() != '/') return format;
  rest_.remove_prefix(1);
  uint64_t count = 0;
  const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), count);
  if (error == std::errc()) {
    format.count = count;
    rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
  }
  bool size_given = false;
  while (!rest_.empty() && std::isalpha(static_cast<unsigned char>(rest_.front())) != 0) {
    const char c = rest_.front();
    rest_.remove_prefix(1);
    constexpr std::string_view kLetters = "xduoci";
    constexpr std::string_view kSizes = "bhwg";
    if (kLetters.find(c) != std::string_view::npos) {
      format.letter = c;
    } else if (const auto size = kSizes.find(c); size != std::string_view::npos) {
      format.size = 1u << size;
      size_given = true;
    } else {
      return fail("invalid char in format: '{}'", c);
    }
  }
  if (format.letter == 'c' && !size_given) format.size = 1;
  constexpr uint64_t kMostUnits = uint64_t{1} << 20;
  if (format.count > kMostUnits) return fail("a count of {} is too large", format.count);
  interpreter_.last_format = format;
  return format;
}

Result<> Words::end() {
  if (at_end()) return {};
  return fail("extraneous characters at the end of line");
}

}  // namespace limen::monitor
