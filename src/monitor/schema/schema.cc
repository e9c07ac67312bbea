#include "monitor/schema/schema.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <nlohmann/json.hpp>
#include <optional>

namespace limen::monitor {
namespace {

constexpr std::array<std::string_view, 7> kBuiltins = {"str",  "int",  "uint", "number",
                                                       "bool", "null", "any"};

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> words;
  for (size_t at = 0; at < text.size();) {
    const char c = text[at];
    if (std::isspace(static_cast<unsigned char>(c)) != 0) {
      ++at;
    } else if (c == '#') {
      at = std::min(text.find('\n', at), text.size());
    } else if (text.substr(at).starts_with("->")) {
      words.emplace_back("->");
      at += 2;
    } else if (std::string_view("{}[],:*").find(c) != std::string_view::npos) {
      words.emplace_back(1, c);
      ++at;
    } else {
      size_t end = at;
      while (end < text.size() &&
             (std::isalnum(static_cast<unsigned char>(text[end])) != 0 ||
              std::string_view("-_.+").find(text[end]) != std::string_view::npos) &&
             !text.substr(end).starts_with("->"))
        ++end;
      if (end == at) end = at + 1;
      words.emplace_back(text.substr(at, end - at));
      at = end;
    }
  }
  return words;
}

}  // namespace

class SchemaParser {
 public:
  explicit SchemaParser(Schema& schema) : schema_(schema) {
    for (const auto name : kBuiltins) make(std::string(name))->kind = Type::Kind::kBuiltin;
    empty_ = make("");
    empty_->kind = Type::Kind::kObject;
    defined_ = {kBuiltins.begin(), kBuiltins.end()};
    defined_.emplace_back("");
  }

  Result<> parse(std::string_view text) {
    words_ = split(text);
    at_ = 0;
    while (at_ < words_.size()) LIMEN_TRY(parse_definition());
    return {};
  }

  Result<> finish() const {
    for (const auto& [name, type] : schema_.types_)
      if (type->kind != Type::Kind::kArray && std::ranges::find(defined_, name) == defined_.end())
        return fail("schema: type '{}' is used and not described", name);
    return {};
  }

 private:
  Type* make(const std::string& name) {
    auto& slot = schema_.types_[name];
    if (!slot) {
      slot = std::make_unique<Type>();
      slot->name = name;
    }
    return slot.get();
  }
  [[nodiscard]] bool next_is(std::string_view word) const {
    return at_ < words_.size() && words_[at_] == word;
  }
  bool take(std::string_view word) {
    if (!next_is(word)) return false;
    ++at_;
    return true;
  }
  Result<> expect(std::string_view word) {
    if (take(word)) return {};
    return fail("schema: '{}' where '{}' should be", at_ < words_.size() ? words_[at_] : "the end",
                word);
  }
  Result<std::string> name() {
    if (at_ == words_.size() || std::isalnum(static_cast<unsigned char>(words_[at_].front())) == 0)
      return fail("schema: '{}' where a name should be",
                  at_ < words_.size() ? words_[at_] : "the end");
    return words_[at_++];
  }

  Result<const Type*> type() {
    if (!take("[")) return make(LIMEN_TRY(name()));
    const Type* element = LIMEN_TRY(type());
    LIMEN_TRY(expect("]"));
    Type* array = make("[" + element->name + "]");
    array->kind = Type::Kind::kArray;
    array->element = element;
    return array;
  }

  Result<> members(Type& object) {
    object.kind = Type::Kind::kObject;
    LIMEN_TRY(expect("{"));
    while (!take("}")) {
      Member member;
      member.optional = take("*");
      member.name = LIMEN_TRY(name());
      LIMEN_TRY(expect(":"));
      member.type = LIMEN_TRY(type());
      object.members.push_back(std::move(member));
      if (!take(",") && !next_is("}")) return fail("schema: ',' is missing in {}", object.name);
    }
    return {};
  }

  Result<Type*> define(const std::string& name) {
    if (std::ranges::find(defined_, name) != defined_.end())
      return fail("schema: '{}' is described twice", name);
    defined_.push_back(name);
    return make(name);
  }

  Result<> parse_definition() {
    const auto what = LIMEN_TRY(name());
    const auto called = LIMEN_TRY(name());
    if (what == "enum") return parse_enum(*LIMEN_TRY(define(called)));
    if (what == "struct") return members(*LIMEN_TRY(define(called)));
    if (what == "union") return parse_union(*LIMEN_TRY(define(called)));
    if (what == "alternate") return parse_alternate(*LIMEN_TRY(define(called)));
    if (what == "event") {
      const Type* data = LIMEN_TRY(parse_arguments(called + "-data"));
      schema_.events_.push_back({called, data});
      return {};
    }
    if (what == "command") return parse_command(called);
    return fail("schema: '{}' is no kind of definition", what);
  }

  Result<> parse_enum(Type& type) {
    type.kind = Type::Kind::kEnum;
    LIMEN_TRY(expect("{"));
    while (!take("}")) {
      type.values.push_back(LIMEN_TRY(name()));
      if (!take(",") && !next_is("}")) return fail("schema: ',' is missing in {}", type.name);
    }
    return {};
  }

  Result<> parse_alternate(Type& type) {
    type.kind = Type::Kind::kAlternate;
    LIMEN_TRY(expect("{"));
    while (!take("}")) {
      type.choices.push_back(make(LIMEN_TRY(name())));
      if (!take(",") && !next_is("}")) return fail("schema: ',' is missing in {}", type.name);
    }
    return {};
  }

  Result<> parse_union(Type& type) {
    LIMEN_TRY(members(type));
    LIMEN_TRY(expect("on"));
    type.tag = LIMEN_TRY(name());
    LIMEN_TRY(expect("{"));
    while (!take("}")) {
      const auto value = LIMEN_TRY(name());
      LIMEN_TRY(expect(":"));
      type.variants.emplace_back(value, make(LIMEN_TRY(name())));
      if (!take(",") && !next_is("}")) return fail("schema: ',' is missing in {}", type.name);
    }
    return {};
  }

  /// Members in braces, the name of a type, or nothing.
  Result<const Type*> parse_arguments(const std::string& called) {
    if (next_is("{")) {
      Type* type = LIMEN_TRY(define(called));
      LIMEN_TRY(members(*type));
      return type;
    }
    const bool ends = at_ == words_.size() || next_is("->") || next_is("[") || next_is("command") ||
                      next_is("event") || next_is("struct") || next_is("enum") || next_is("union") ||
                      next_is("alternate");
    if (ends) return empty_;
    return make(LIMEN_TRY(name()));
  }

  Result<> parse_command(const std::string& called) {
    CommandSchema command;
    command.name = called;
    command.arguments = LIMEN_TRY(parse_arguments(called + "-arg"));
    command.result = take("->") ? LIMEN_TRY(type()) : empty_;
    if (take("["))
      while (!take("]")) {
        const auto word = LIMEN_TRY(name());
        if (word == "oob")
          command.allow_oob = true;
        else if (word == "open")
          command.open = true;
        else
          command.features.push_back(word);
      }
    schema_.commands_.push_back(std::move(command));
    return {};
  }

  Schema& schema_;
  Type* empty_ = nullptr;
  std::vector<std::string> defined_;
  std::vector<std::string> words_;
  size_t at_ = 0;
};

Schema::~Schema() = default;

Result<std::unique_ptr<Schema>> Schema::parse(std::span<const std::string_view> texts) {
  std::unique_ptr<Schema> schema(new Schema);
  SchemaParser parser(*schema);
  for (const auto text : texts) LIMEN_TRY(parser.parse(text));
  LIMEN_TRY(parser.finish());
  std::ranges::sort(schema->commands_, {}, &CommandSchema::name);
  std::ranges::sort(schema->events_, {}, &EventSchema::name);
  return schema;
}

const CommandSchema* Schema::find_command(std::string_view name) const {
  const auto found = std::ranges::lower_bound(commands_, name, {}, &CommandSchema::name);
  return found != commands_.end() && found->name == name ? &*found : nullptr;
}

const EventSchema* Schema::find_event(std::string_view name) const {
  const auto found = std::ranges::lower_bound(events_, name, {}, &EventSchema::name);
  return found != events_.end() && found->name == name ? &*found : nullptr;
}

}  // namespace limen::monitor
