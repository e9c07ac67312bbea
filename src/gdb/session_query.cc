// Queries, settings, threads.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "gdb/session.h"

namespace limen::gdb {
namespace {

constexpr unsigned kInvalidArgument = 22;

}  // namespace

void Session::choose_thread(std::string_view text) {
  const char command = text.front();
  text.remove_prefix(1);
  char operation = 0;
  if (command == 'H') {
    if (text.empty()) return reply_error(kInvalidArgument);
    operation = text.front();
    text.remove_prefix(1);
  }
  const auto id = take_thread(text);
  if (!id) return reply_error(kInvalidArgument);
  const auto processor = processor_of(*id);
  if (!processor) return reply_error(kInvalidArgument);
  if (operation == 'c') {
    continue_ = *processor;
    continue_all_ = id->thread <= 0;
  } else if (operation == 'g') {
    selected_ = *processor;
  } else if (command == 'H') {
    return reply_error(kInvalidArgument);
  }
  reply_ok();
}

void Session::query(std::string_view text) {
  if (take(text, "Supported")) {
    multiprocess_ = text.find("multiprocess+") != std::string_view::npos;
    swbreak_ = text.find("swbreak+") != std::string_view::npos;
    hwbreak_ = text.find("hwbreak+") != std::string_view::npos;
    return reply(
        fmt::format("PacketSize={:x};qXfer:features:read+;vContSupported+;multiprocess+;"
                    "QStartNoAckMode+;swbreak+;hwbreak+",
                    kPacketLimit - 1));
  }
  if (take(text, "Xfer:features:read:")) return read_features(text);
  if (take(text, "Rcmd,")) return run_monitor_command(text);
  if (take(text, "ThreadExtraInfo,")) return describe_thread(text);
  if (text == "fThreadInfo") return list_threads(0);
  if (text == "sThreadInfo") return reply("l");
  if (text == "C") return reply("QC" + thread_name(selected_));
  if (text.starts_with("Attached")) return reply("1");
  if (take(text, "qemu.") && query_qemu(text)) return;
  reply("");
}

bool Session::query_qemu(std::string_view text) {
  if (text == "sstepbits")
    reply("ENABLE=1,NOIRQ=2,NOTIMER=4");
  else if (text == "sstep")
    reply(fmt::format("0x{:x}", step_bits_));
  else if (text == "Supported")
    reply("sstepbits;sstep;PhyMemMode");
  else if (text == "PhyMemMode")
    reply(physical_memory_ ? "1" : "0");
  else
    return false;
  return true;
}

void Session::set(std::string_view text) {
  if (text == "StartNoAckMode") {
    reply_ok();
    no_ack_ = true;
    last_sent_.clear();
    return;
  }
  if (take(text, "qemu.sstep=") || take(text, "qemu.sstep:")) {
    static_cast<void>(take(text, "0x"));
    const auto bits = take_hex(text);
    constexpr unsigned kKnown = 7;
    if (!bits || (*bits & ~uint64_t{kKnown}) != 0) return reply_error(kInvalidArgument);
    step_bits_ = static_cast<unsigned>(*bits);
    return reply_ok();
  }
  if (take(text, "qemu.PhyMemMode:")) {
    if (text != "0" && text != "1") return reply_error(kInvalidArgument);
    physical_memory_ = text == "1";
    return reply_ok();
  }
  reply("");
}

void Session::list_threads(size_t from) {
  std::string names;
  for (size_t i = from; i < target_.processor_count(); ++i)
    names += (names.empty() ? "m" : ",") + thread_name(static_cast<unsigned>(i));
  reply(names);
}

void Session::describe_thread(std::string_view text) {
  const auto id = take_thread(text);
  const auto processor = id ? processor_of(*id) : std::nullopt;
  if (!processor) return reply_error(kInvalidArgument);
  const std::string info =
      fmt::format("CPU#{} [{}]", *processor, target_.halted(*processor) ? "halted " : "running");
  reply(to_hex(std::string_view(info)));
}

void Session::read_features(std::string_view text) {
  if (!take(text, "target.xml:")) return reply("E00");
  const auto offset = take_hex(text);
  if (!offset || !take(text, ",")) return reply("E00");
  const auto size = take_hex(text);
  if (!size) return reply("E00");
  const std::string_view all = target_description();
  if (*offset > all.size()) return reply("E00");
  // Escapes may double what is sent.
  const uint64_t most = std::min<uint64_t>(*size, (kPacketLimit - 8) / 2);
  const auto part = all.substr(*offset, most);
  reply((*offset + part.size() < all.size() ? "m" : "l") + std::string(part));
}

void Session::run_monitor_command(std::string_view text) {
  const auto command = from_hex(text);
  if (!command) return reply_error(kInvalidArgument);
  const std::string output = target_.monitor(*command);
  constexpr size_t kPiece = 1024;
  for (size_t at = 0; at < output.size(); at += kPiece)
    reply("O" + to_hex(std::string_view(output).substr(at, kPiece)));
  reply_ok();
}

void Session::v_packet(std::string_view text) {
  if (text == "Cont?") return reply("vCont;c;C;s;S;t");
  if (take(text, "Cont")) return resume_by_thread(text);
  if (take(text, "Attach;")) {
    const auto process = take_hex(text);
    if (!process || *process != 1) return reply_error(kInvalidArgument);
    forget_stops();
    return reply(stop_reply(Signal::kTrap));
  }
  if (text.starts_with("Kill")) {
    reply_ok();
    open_ = false;
    ended_ = true;
    return target_.quit();
  }
  reply("");
}

}  // namespace limen::gdb
