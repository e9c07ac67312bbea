# The files of the browser's console (src/web/page, noVNC, xterm.js), packed into room web.
# Debian's packages novnc, node-xterm and libjs-xterm have the latter two, with their licences.

find_path(LIMEN_NOVNC core/rfb.js PATHS /usr/share/novnc REQUIRED NO_DEFAULT_PATH
  DOC "Where noVNC is")
find_path(LIMEN_XTERM lib/public/Terminal.js PATHS /usr/share/nodejs/xterm REQUIRED NO_DEFAULT_PATH
  DOC "Where xterm.js is, as CommonJS modules")
find_path(LIMEN_XTERM_BROWSER addons/fit/fit.js PATHS /usr/share/javascript/xterm REQUIRED
  NO_DEFAULT_PATH DOC "Where xterm.js' style sheet and addons are")
set(LIMEN_LICENSES /usr/share/doc CACHE PATH "Where novnc/copyright and libjs-xterm/copyright are")

set(page ${CMAKE_SOURCE_DIR}/src/web/page)
file(GLOB own CONFIGURE_DEPENDS ${page}/*)
file(GLOB_RECURSE novnc ${LIMEN_NOVNC}/core/*.js ${LIMEN_NOVNC}/vendor/*.js)

set(assets /licenses/novnc.txt=${LIMEN_LICENSES}/novnc/copyright
  /licenses/xterm.txt=${LIMEN_LICENSES}/libjs-xterm/copyright
  /xterm/xterm.js=${CMAKE_BINARY_DIR}/xterm.js /xterm/xterm.css=${LIMEN_XTERM_BROWSER}/xterm.css)
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
# Debian has it in pieces, for bundlers.
add_custom_command(OUTPUT ${CMAKE_BINARY_DIR}/xterm.js
  COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/cmake/bundle_commonjs.py
          ${CMAKE_BINARY_DIR}/xterm.js Terminal=${LIMEN_XTERM}/lib/public/Terminal.js
          fit=${LIMEN_XTERM_BROWSER}/addons/fit/fit.js
  DEPENDS ${CMAKE_SOURCE_DIR}/cmake/bundle_commonjs.py)
set(packed ${CMAKE_BINARY_DIR}/web_assets.cc)
add_custom_command(OUTPUT ${packed} ${CMAKE_BINARY_DIR}/web_assets.bin
  COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/cmake/embed_files.py ${packed} ${assets}
  DEPENDS ${CMAKE_SOURCE_DIR}/cmake/embed_files.py ${own} ${novnc}
          ${CMAKE_BINARY_DIR}/xterm.js)
target_sources(limen_web PRIVATE ${packed})
