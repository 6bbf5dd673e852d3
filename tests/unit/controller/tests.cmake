foreach(name broadcast feed lifeline local options roster)
  rh_unit_test(controller ${name} base wire sched hub store net)
endforeach()
