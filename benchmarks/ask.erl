%% The peer of W1: as many callers as servers, each asking its own by gen_server:call.
-module(ask).
-behaviour(gen_server).
-export([main/1, init/1, handle_call/3, handle_cast/2]).

init(State) -> {ok, State}.
handle_call(Message, _From, State) -> {reply, Message, State}.
handle_cast(_Message, State) -> {noreply, State}.

main([Actors, Milliseconds]) ->
    Servers = [start() || _ <- lists:seq(1, list_to_integer(Actors))],
    Microseconds = list_to_integer(Milliseconds) * 1000,
    Count = calibrate(Servers, Microseconds, 100),
    Took = together(Servers, Count),
    io:format("~w~n", [length(Servers) * Count * 1.0e6 / Took]),
    halt(0).

start() ->
    {ok, Server} = gen_server:start(?MODULE, 0, []),
    Server.

calibrate(Servers, Microseconds, Count) ->
    case together(Servers, Count) of
        Took when Took * 4 < Microseconds -> calibrate(Servers, Microseconds, Count * 4);
        Took -> max(1, Count * Microseconds div Took)
    end.

together(Servers, Count) ->
    Callers = [spawn_monitor(fun() -> receive go -> call(Server, Count) end end)
               || Server <- Servers],
    Started = erlang:monotonic_time(microsecond),
    [Caller ! go || {Caller, _} <- Callers],
    [receive {'DOWN', Monitor, process, _, normal} -> ok end || {_, Monitor} <- Callers],
    max(1, erlang:monotonic_time(microsecond) - Started).

call(_Server, 0) -> ok;
call(Server, Count) ->
    1 = gen_server:call(Server, 1),
    call(Server, Count - 1).
