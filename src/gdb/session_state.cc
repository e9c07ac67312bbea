// Registers and memory.
#include <algorithm>
#include <vector>

#include "gdb/session.h"

namespace limen::gdb {
namespace {

constexpr unsigned kInvalidArgument = 22, kBadAddress = 14;  // errno's numbers, as QEMU's

/// The longest piece of memory that one packet carries in hexadecimal digits.
constexpr uint64_t kMostBytes = (kPacketLimit - 32) / 2;

}  // namespace

void Session::read_registers() {
  const RegisterFile file = target_.registers(selected_);
  std::string all;
  for (size_t i = 0; i < register_count(); ++i) all += read_register(file, i);
  reply(to_hex(all));
}

void Session::write_registers(std::string_view text) {
  const auto bytes = from_hex(text);
  if (!bytes) return reply_error(kInvalidArgument);
  RegisterFile file = target_.registers(selected_);
  std::string_view rest = *bytes;
  // A packet may end early: what it does not reach stays.
  for (size_t i = 0; i < register_count() && rest.size() >= register_size(i); ++i) {
    write_register(file, i, rest.substr(0, register_size(i)));
    rest.remove_prefix(register_size(i));
  }
  target_.set_registers(selected_, file);
  reply_ok();
}

void Session::read_one_register(std::string_view text) {
  const auto number = take_hex(text);
  if (!number || *number >= register_count()) return reply_error(kInvalidArgument);
  reply(to_hex(read_register(target_.registers(selected_), *number)));
}

void Session::write_one_register(std::string_view text) {
  const auto number = take_hex(text);
  if (!number || *number >= register_count() || !take(text, "="))
    return reply_error(kInvalidArgument);
  const auto bytes = from_hex(text);
  if (!bytes || bytes->size() != register_size(*number)) return reply_error(kInvalidArgument);
  RegisterFile file = target_.registers(selected_);
  write_register(file, *number, *bytes);
  target_.set_registers(selected_, file);
  reply_ok();
}

void Session::read_memory(std::string_view text) {
  const auto address = take_hex(text);
  if (!address || !take(text, ",")) return reply_error(kInvalidArgument);
  const auto size = take_hex(text);
  if (!size || !text.empty() || *size > kMostBytes) return reply_error(kInvalidArgument);
  std::vector<std::byte> bytes(*size);
  const size_t got = target_.read_memory(selected_, *address, physical_memory_, bytes);
  if (got == 0 && *size != 0) return reply_error(kBadAddress);
  reply(to_hex(std::span(bytes).first(got)));
}

void Session::write_memory(std::string_view text, bool binary) {
  const auto address = take_hex(text);
  if (!address || !take(text, ",")) return reply_error(kInvalidArgument);
  const auto size = take_hex(text);
  if (!size || !take(text, ":")) return reply_error(kInvalidArgument);
  const auto bytes = binary ? std::optional(std::string(text)) : from_hex(text);
  if (!bytes || bytes->size() != *size) return reply_error(kInvalidArgument);
  if (!target_.write_memory(selected_, *address, physical_memory_,
                            std::as_bytes(std::span(*bytes))))
    return reply_error(kBadAddress);
  reply_ok();
}

}  // namespace limen::gdb
