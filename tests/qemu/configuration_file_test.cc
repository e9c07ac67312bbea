#include "qemu/configuration_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace limen::qemu {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;

Result<std::vector<ConfigurationSection>> parse(const std::string& text) {
  std::istringstream stream(text);
  return parse_configuration(stream);
}

TEST(ConfigurationFile, HasSectionsOfKeysAndValues) {
  const auto sections = parse(
      "# comment\n\n[drive \"d0\"]\n  file = \"a b,c.img\"\r\n\tformat=\"raw\"\n[machine]\n"
      "  append = \"root=/dev/vda # no comment\"\n[ memory ]\n size = \"\"\n");
  ASSERT_TRUE(sections) << sections.error().message;
  ASSERT_EQ(sections->size(), 3u);
  EXPECT_EQ((*sections)[0].group, "drive");
  EXPECT_EQ((*sections)[0].line, 3u);
  EXPECT_THAT((*sections)[0].values,
              ElementsAre(Pair("id", "d0"), Pair("file", "a b,c.img"), Pair("format", "raw")));
  EXPECT_EQ((*sections)[1].line, 6u);
  EXPECT_THAT((*sections)[1].values, ElementsAre(Pair("append", "root=/dev/vda # no comment")));
  EXPECT_THAT((*sections)[2].values, ElementsAre(Pair("size", "")));
  EXPECT_THAT(*parse(""), IsEmpty());
}

TEST(ConfigurationFile, ErrorsNameTheLine) {
  const auto error = [](const std::string& text) {
    const auto sections = parse(text);
    return sections ? "no error" : sections.error().message;
  };
  for (const char* bad :
       {"[", "[]", "[a", "[a \"b]", "[a b]", "[a \"b\" c]", "[\"a\"]", "[a]\nk", "[a]\nk=v",
        "[a]\nk=\"v", "[a]\n=\"v\"", "[a]\nk=\"v\"x", "[a]\nk l=\"v\"", "[a]\nk=\"a\"b\""})
    EXPECT_THAT(error(bad), HasSubstr("parse error")) << bad;
  EXPECT_THAT(error("\n[a]\n\nk=v"), HasSubstr("line 4: "));
  EXPECT_THAT(error("# x\nk = \"v\""), HasSubstr("line 2: no group defined"));
}

}  // namespace
}  // namespace limen::qemu
