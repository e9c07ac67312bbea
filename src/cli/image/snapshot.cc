#include <fmt/format.h>

#include <ctime>

#include "cli/image/snapshot_list.h"
#include "cli/image/verbs.h"

namespace limen::cli::image {

std::string list_snapshots(const block::qcow2::Image& image) {
  std::string text = "Snapshot list:\n";
  text += fmt::format("{:<10}{:<17}{:>8}{:>20}{:>13}{:>11}\n", "ID", "TAG", "VM SIZE", "DATE",
                      "VM CLOCK", "ICOUNT");
  for (const auto& snapshot : image.snapshots()) {
    const std::time_t when = snapshot.date_seconds;
    std::tm local{};
    ::localtime_r(&when, &local);
    char date[64];
    std::strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S", &local);
    const uint64_t seconds = snapshot.vm_clock_nanoseconds / 1'000'000'000;
    const auto clock = fmt::format("{:02}:{:02}:{:02}.{:03}", seconds / 3600, seconds / 60 % 60,
                                   seconds % 60, snapshot.vm_clock_nanoseconds / 1'000'000 % 1000);
    const auto icount = snapshot.icount == UINT64_MAX ? "" : std::to_string(snapshot.icount);
    text += fmt::format("{:<9} {:<16} {:>8}{:>20}{:>13}{:>11}\n", snapshot.id, snapshot.name,
                        human_size(snapshot.vm_state_size), date, clock, icount);
  }
  return text;
}

nlohmann::ordered_json describe_snapshot(const block::qcow2::Snapshot& snapshot) {
  nlohmann::ordered_json json;
  if (snapshot.icount != UINT64_MAX) json["icount"] = snapshot.icount;
  json["vm-clock-nsec"] = snapshot.vm_clock_nanoseconds % 1'000'000'000;
  json["name"] = snapshot.name;
  json["date-sec"] = snapshot.date_seconds;
  json["date-nsec"] = snapshot.date_nanoseconds;
  json["vm-clock-sec"] = snapshot.vm_clock_nanoseconds / 1'000'000'000;
  json["id"] = snapshot.id;
  json["vm-state-size"] = snapshot.vm_state_size;
  return json;
}

namespace {

Result<int> run_snapshot(const Words& words) {
  LIMEN_TRY(words.expect(1, "FILE"));
  const int actions = (words.has("-l") ? 1 : 0) + (words.has("-a") ? 1 : 0) +
                      (words.has("-c") ? 1 : 0) + (words.has("-d") ? 1 : 0);
  if (actions > 1) return fail("snapshot: only one of -l, -a, -c and -d is possible");
  const bool changes = words.has("-a") || words.has("-c") || words.has("-d");
  const auto& path = words.positional()[0];
  const auto options = LIMEN_TRY(
      layer_options({.format = words.text("-f"), .write = changes, .share = words.has("-U")}));
  const auto layer = LIMEN_TRY(block::open_layer(path, options));
  auto* image = dynamic_cast<block::qcow2::Image*>(layer.get());
  if (image == nullptr) {
    if (!changes) return 0;
    return fail("image '{}' is raw: it can have no snapshots", path);
  }
  if (words.has("-c")) {
    const auto name = words.text("-c");
    auto done = image->create_snapshot(name);
    if (!done) return fail("could not create snapshot '{}': {}", name, done.error().message);
  } else if (words.has("-a")) {
    const auto name = words.text("-a");
    auto done = image->apply_snapshot(name);
    if (!done) return fail("could not apply snapshot '{}': {}", name, done.error().message);
  } else if (words.has("-d")) {
    const auto name = words.text("-d");
    auto done = image->delete_snapshot(name);
    if (!done) return fail("could not delete snapshot '{}': {}", name, done.error().message);
  } else if (!image->snapshots().empty()) {
    fmt::print("{}", list_snapshots(*image));
  }
  return 0;
}

constexpr Flag kSnapshotFlags[] = {kHelpFlag,        kFormatFlag,       kQuietFlag,
                                   kShareFlag,       {"-l", "", false}, {"-a", "", true},
                                   {"-c", "", true}, {"-d", "", true}};

}  // namespace

const Verb kSnapshot = {"snapshot",
                        "[-f FORMAT] [-U] [-q] [-l | -a NAME | -c NAME | -d NAME] FILE",
                        "list, apply, create and delete the snapshots inside an image",
                        R"(  -l       list them (the default)
  -c NAME  keep what the disk has now as NAME
  -a NAME  the disk has again what NAME has
  -d NAME  delete NAME
NAME may be a snapshot's ID, too.
)",
                        kSnapshotFlags,
                        run_snapshot};

}  // namespace limen::cli::image
