# The files of the browser's console (src/web/page, noVNC, xterm.js), packed into room web.
# Debian's packages novnc and libjs-xterm have the latter two, with their licences.

find_path(LIMEN_NOVNC core/rfb.js PATHS /usr/share/novnc REQUIRED NO_DEFAULT_PATH
  DOC "Where noVNC is")
find_path(LIMEN_XTERM xterm.js PATHS /usr/share/javascript/xterm REQUIRED NO_DEFAULT_PATH
  DOC "Where xterm.js is")
set(LIMEN_LICENSES /usr/share/doc CACHE PATH "Where novnc/copyright and libjs-xterm/copyright are")

set(page ${CMAKE_SOURCE_DIR}/src/web/page)
file(GLOB own CONFIGURE_DEPENDS ${page}/*)
file(GLOB_RECURSE novnc ${LIMEN_NOVNC}/core/*.js ${LIMEN_NOVNC}/vendor/*.js)

set(assets /licenses/novnc.txt=${LIMEN_LICENSES}/novnc/copyright
  /licenses/xterm.txt=${LIMEN_LICENSES}/libjs-xterm/copyright
  /xterm/xterm.js=${LIMEN_XTERM}/xterm.js /xterm/xterm.css=${LIMEN_XTERM}/xterm.css
  /xterm/fit.js=${LIMEN_XTERM}/addons/fit/fit.js)
foreach(file ${novnc})
  file(RELATIVE_PATH name ${LIMEN_NOVNC} ${file})
  list(APPEND assets /novnc/${name}=${file})
endforeach()
foreach(file ${own})
  get_filename_component(name ${file} NAME)
  if(name STREQUAL index.html)
    list(APPEND assets /=${file})
  else()
    list(APPEND assets /page/${name}=${file})
  endif()
endforeach()

find_package(Python3 REQUIRED COMPONENTS Interpreter)
set(packed ${CMAKE_BINARY_DIR}/web_assets.cc)
add_custom_command(OUTPUT ${packed} ${CMAKE_BINARY_DIR}/web_assets.bin
  COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/cmake/embed_files.py ${packed} ${assets}
  DEPENDS ${CMAKE_SOURCE_DIR}/cmake/embed_files.py ${own} ${novnc})
target_sources(limen_web PRIVATE ${packed})
