#if LIMEN_WEB
#include "web/assets.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace limen::web {
namespace {

TEST(Assets, EveryOneIsFoundByItsPath) {
  ASSERT_GT(assets().size(), 40u);
  EXPECT_TRUE(std::ranges::is_sorted(assets(), {}, &Asset::path));
  for (const auto& asset : assets()) {
    EXPECT_EQ(find_asset(asset.path), &asset);
    // gzip's magic number (RFC 1952 §2.3.1).
    ASSERT_GT(asset.content.size(), 18u) << asset.path;
    EXPECT_EQ(asset.content[0], 0x1F) << asset.path;
    EXPECT_EQ(asset.content[1], 0x8B) << asset.path;
  }
}

TEST(Assets, ThePageAndWhatItNeedsAreThere) {
  for (const char* path : {"/", "/page/main.js", "/page/style.css", "/novnc/core/rfb.js",
                           "/novnc/vendor/pako/lib/zlib/inflate.js", "/xterm/xterm.js",
                           "/licenses/novnc.txt", "/licenses/xterm.txt"})
    EXPECT_NE(find_asset(path), nullptr) << path;
  EXPECT_EQ(find_asset("/")->type, "text/html; charset=utf-8");
  EXPECT_EQ(find_asset("/page/main.js")->type, "text/javascript; charset=utf-8");
}

TEST(Assets, NothingElseIs) {
  for (const char* path : {"", "//", "/index.html", "/page/", "/page/../page/main.js",
                           "/../../../etc/passwd", "/etc/passwd", "/novnc/core/rfb.js/", "page"})
    EXPECT_EQ(find_asset(path), nullptr) << path;
}

}  // namespace
}  // namespace limen::web
#endif
